"""Who takes tokens for a node: itself at home, the rank of equal index between equal nodes, and nobody too many."""

from collections import Counter

import pytest

from mixtralkit.dist.topology import Topology
from mixtralkit.moe.placement.relays import relays

LAYOUTS = [(0, 0, 1, 1), (0, 1, 0, 1), (0, 0, 0, 1), (0, 1, 1, 2, 2, 2, 2), (0,), (0, 1, 2), (0, 0, 1, 1, 2, 2, 2, 2)]


@pytest.mark.parametrize("node_of_rank", LAYOUTS)
def test_a_relay_is_on_its_node_and_none_has_more_than_its_share(node_of_rank: tuple[int, ...]) -> None:
    """The ranks outside a node are dealt to its ranks: at most one more to one than to another."""
    topology = Topology(node_of_rank)
    relay_WM = relays(topology)
    for node in range(topology.num_nodes):
        here = topology.ranks_of_node(node)
        served = Counter(dict.fromkeys(here, 0))
        for rank, at in enumerate(node_of_rank):
            assert relay_WM[rank][node] in here
            if at == node:
                assert relay_WM[rank][node] == rank
            else:
                served[relay_WM[rank][node]] += 1
        assert max(served.values()) - min(served.values()) <= 1


@pytest.mark.parametrize("node_of_rank", [(0, 0, 1, 1, 2, 2), (0, 1, 2, 0, 1, 2), (0, 1, 1, 0)])
def test_between_equal_nodes_it_is_the_rank_of_equal_index(node_of_rank: tuple[int, ...]) -> None:
    """However the ranks are numbered."""
    topology = Topology(node_of_rank)
    for rank, relay_M in enumerate(relays(topology)):
        assert [topology.local_index(relay) for relay in relay_M] == [topology.local_index(rank)] * topology.num_nodes
