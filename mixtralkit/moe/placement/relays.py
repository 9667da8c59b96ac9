"""Who takes tokens for a node when one copy of each goes there (moe/dispatch/hierarchical.py). Pure."""

from mixtralkit.dist.topology import Topology


def relays(topology: Topology) -> list[list[int]]:
    """Of each rank the relay on every node, `[W][M]`: itself on its own.

    The ranks of all other nodes take turns with those of a node. Between nodes of equally many ranks it is the one with
    the same local index; with unequal ones no relay serves more than one rank more than its neighbours do.
    """
    ranks = range(len(topology.node_of_rank))
    by_node = sorted(ranks, key=lambda rank: (topology.node_of_rank[rank], rank))
    relay_WM = [[rank] * topology.num_nodes for rank in ranks]
    for node in range(topology.num_nodes):
        here = topology.ranks_of_node(node)
        outside = (rank for rank in by_node if topology.node_of_rank[rank] != node)
        for turn, rank in enumerate(outside):
            relay_WM[rank][node] = here[turn % len(here)]
    return relay_WM
