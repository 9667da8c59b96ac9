"""Ranks and nodes from host names alone."""

from mixtralkit.dist.topology import Topology, topology_of


def test_nodes_are_numbered_by_their_lowest_rank_whatever_the_order_of_ranks() -> None:
    topology = topology_of(["b", "a", "b", "c", "a"])
    assert topology == Topology((0, 1, 0, 2, 1))
    assert topology.num_nodes == 3
    assert [topology.ranks_of_node(node) for node in range(3)] == [(0, 2), (1, 4), (3,)]
    assert [topology.local_index(rank) for rank in range(5)] == [0, 0, 1, 0, 1]
