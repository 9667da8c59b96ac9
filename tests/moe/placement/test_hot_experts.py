"""Hot experts by load, and their replicas on all ranks or nodes."""

import pytest

from mixtralkit.dist.topology import Topology
from mixtralkit.errors import UsageError
from mixtralkit.moe.placement.hot_experts import replicate, replicate_in_layers
from mixtralkit.moe.placement.plan import Placement, even_split, same_for_all

NODES = Topology((0, 0, 1, 1))


def test_on_every_rank() -> None:
    placement = replicate(even_split(4, 4), [3, 0], NODES, "rank")
    assert placement.experts_of_rank == ((0, 3), (0, 1, 3), (0, 2, 3), (0, 3))


def test_once_on_each_node_where_the_fewest_are() -> None:
    """Expert 0 goes to rank 2; rank 3 then holds fewer and gets expert 1; experts 2 and 3 the other way round."""
    placement = replicate(even_split(4, 4), range(4), NODES, "node")
    assert placement.experts_of_rank == ((0, 2), (1, 3), (0, 2), (1, 3))
    assert replicate(placement, range(4), NODES, "node") == placement


def test_in_all_layers_or_in_one() -> None:
    placements = replicate_in_layers(same_for_all(even_split(2, 2), 3), [(None, (0,)), (2, (1,))], Topology((0, 1)))
    assert placements == (*[Placement(2, ((0,), (0, 1)))] * 2, Placement(2, ((0, 1), (0, 1))))


def test_what_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="no expert 9 to replicate.*0 to 3"):
        replicate(even_split(4, 4), [1, 9], NODES)
    with pytest.raises(UsageError, match="no layer 3.*0 to 2"):
        replicate_in_layers(same_for_all(even_split(4, 4), 3), [(3, (0,))], NODES)
