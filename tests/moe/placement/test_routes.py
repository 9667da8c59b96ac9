"""Where rows go when several ranks hold an expert."""

import itertools
import random

import pytest

from mixtralkit.dist.topology import Topology
from mixtralkit.moe.placement.plan import Placement, even_split
from mixtralkit.moe.placement.routes import nearest_owners, routes_of

NODES = Topology((0, 0, 1, 1))


def _distance(topology: Topology, source: int, owner: int) -> int:
    return 0 if source == owner else 1 if topology.node_of_rank[source] == topology.node_of_rank[owner] else 2


@pytest.mark.parametrize("seed", range(20))
def test_rows_go_to_a_nearest_owner(seed: int) -> None:
    """The rank itself, then its node, then any: no owner is nearer than the chosen one, and it holds the expert."""
    draw = random.Random(seed)
    placement = even_split(5, 4)
    for _ in range(draw.randrange(8)):
        placement = placement.with_replica(draw.randrange(5), draw.randrange(4))
    demand = [[draw.randrange(9) for _ in range(5)] for _ in range(4)]
    owner_WE = nearest_owners(placement, NODES, demand)
    for rank, expert in itertools.product(range(4), range(5)):
        owners = placement.owners_of(expert)
        assert owner_WE[rank][expert] in owners
        nearest = min(_distance(NODES, rank, owner) for owner in owners)
        assert _distance(NODES, rank, owner_WE[rank][expert]) == nearest


def test_of_equally_near_owners_the_one_with_least_to_do() -> None:
    """Ranks 2 and 3 hold expert 0, which ranks 0 and 1 on the other node ask for: each gets one of them."""
    placement = Placement(2, ((1,), (1,), (0,), (0,)))
    owner_WE = nearest_owners(placement, NODES)
    assert {owner_WE[0][0], owner_WE[1][0]} == {2, 3}
    # Rank 2 is busy with rows of its own: both go to rank 3, for as long as it has less to do.
    demand = [[4, 0], [4, 0], [50, 0], [1, 0]]
    owner_WE = nearest_owners(placement, NODES, demand)
    assert owner_WE[0][0] == owner_WE[1][0] == 3


def test_with_more_ranks_than_experts_all_are_asked() -> None:
    """Six ranks and four experts: every rank computes its own rows of the expert that it holds, so none is idle."""
    owner_WE = nearest_owners(even_split(4, 6), Topology((0,) * 6))
    assert {owner for owners in owner_WE for owner in owners} == set(range(6))


def test_all_stay_home_only_if_all_hold_everything() -> None:
    """Then nothing travels, and the layer may do without an exchange."""
    everywhere = Placement(2, ((0, 1), (0, 1)))
    assert routes_of(everywhere, Topology((0, 1)), 0).stays_home
    assert not routes_of(Placement(2, ((0, 1), (1,))), Topology((0, 1)), 0).stays_home
