"""Steps towards better placements: few moves, within the budget at every moment, an end, and nothing in vain."""

import random
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from mixtralkit.dist.topology import Topology
from mixtralkit.moe.placement.cost import Rates
from mixtralkit.moe.placement.plan import Placement
from mixtralkit.moe.placement.rebalance import rebalance
from mixtralkit.moe.placement.replica import Replica, replicas_beyond, with_replicas
from mixtralkit.moe.placement.transition import next_placements
from tests.moe.placement.worlds import SHAPE, World, possible_replicas, worlds

SLOW_NETWORK = Rates(1e10, 1e7, 0.0, 0.0, compute=1e15, weight_bandwidth=1e15)


def after(
    world: World,
    current: tuple[Placement, ...],
    moves: int = 1,
    horizon: float = 1e6,
    refused: Collection[Replica] = (),
) -> tuple[Placement, ...]:
    return next_placements(
        world.demand,
        current,
        world.homes,
        world.topology,
        world.rates,
        SHAPE,
        world.budget,
        moves=moves,
        move_seconds=SHAPE.weight_bytes / world.rates.network_bandwidth,
        horizon=horizon,
        refused=refused,
    )


def some_replicas(world: World, draw: random.Random) -> tuple[Placement, ...]:
    """The homes, and replicas that fit."""
    left = Counter({rank: draw.randint(0, world.places) for rank in range(len(world.topology.node_of_rank))})
    replicas = [replica for replica in possible_replicas(world) if draw.random() < 0.5]
    draw.shuffle(replicas)
    kept = []
    for replica in replicas:
        if left[replica.rank] > 0:
            left[replica.rank] -= 1
            kept.append(replica)
    return with_replicas(world.homes, kept)


@given(worlds(), st.randoms(use_true_random=False), st.integers(1, 4))
def test_few_moves_within_the_budget(world: World, draw: random.Random, moves: int) -> None:
    """From any replicas at all: what is held before and after, together, never exceeds the places of a rank."""
    current = some_replicas(world, draw)
    then = after(world, current, moves)
    held, wanted = replicas_beyond(world.homes, current), replicas_beyond(world.homes, then)
    assert len(wanted - held) <= moves
    for rank in range(len(world.topology.node_of_rank)):
        assert sum(replica.rank == rank for replica in held | wanted) <= world.places


@given(worlds())
@settings(max_examples=30)
def test_one_replica_at_a_time_comes_to_rest(world: World) -> None:
    """With the same demand it ends where nothing changes any more, and no worse than at home."""
    current = tuple(world.homes)
    for _ in range(200):
        then = after(world, current)
        if then == current:
            break
        current = then
    else:
        raise AssertionError("it never came to rest")
    assert world.seconds(current) <= world.seconds(world.homes)


@given(worlds())
@settings(max_examples=30)
def test_what_rebalance_finds_is_kept(world: World) -> None:
    """Hysteresis: what is there has nothing to pay, so the same demand leaves it alone."""
    found = rebalance(world.demand, world.homes, world.topology, world.rates, SHAPE, world.budget)
    assert after(world, found, moves=9, horizon=inf) == found


@given(worlds(), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_what_is_refused_never_comes(world: World, draw: random.Random) -> None:
    """Nor does it make a step slower than at home, as a half of a change for the better could."""
    refused = {replica for replica in possible_replicas(world) if draw.random() < 0.5}
    then = after(world, tuple(world.homes), moves=99, refused=refused)
    assert not replicas_beyond(world.homes, then) & refused
    assert world.seconds(then) <= world.seconds(world.homes)


TWO_NODES = World(
    demand=[[[10.0, 8.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]],
    homes=(Placement(4, ((2, 3), (0, 1))),),
    topology=Topology((0, 1)),
    rates=SLOW_NETWORK,
    places=1,
)
HOT = (TWO_NODES.homes[0].with_replica(0, 0),)


def test_the_best_comes_first() -> None:
    """Rank 0 asks most for expert 0 of the other node."""
    assert after(TWO_NODES, TWO_NODES.homes) == HOT


def test_one_that_is_refused_leaves_its_place_to_the_next_best() -> None:
    (best,) = replicas_beyond(TWO_NODES.homes, HOT)
    assert after(TWO_NODES, TWO_NODES.homes, refused=[best]) == (TWO_NODES.homes[0].with_replica(1, 0),)


def test_a_replica_that_does_not_pay_for_its_way_stays_where_it_is() -> None:
    """Fetching an expert takes as long as several hundred rows here, so it has to last more than a few steps."""
    assert after(TWO_NODES, TWO_NODES.homes, horizon=3) == TWO_NODES.homes


def test_an_equal_does_not_take_the_place_but_a_better_one_does_in_two_steps() -> None:
    """First the place is given up, then it is taken: never more than the budget."""
    a_little_more = replace(TWO_NODES, demand=[[[10.0, 10.1, 1.0, 1.0], [1.0] * 4]])
    assert after(a_little_more, HOT, horizon=1e3) == HOT
    much_more = replace(TWO_NODES, demand=[[[2.0, 20.0, 1.0, 1.0], [1.0] * 4]])
    emptied = after(much_more, HOT, horizon=1e3)
    assert emptied == TWO_NODES.homes
    assert after(much_more, emptied, horizon=1e3) == (TWO_NODES.homes[0].with_replica(1, 0),)


def test_a_replica_that_no_longer_pays_goes() -> None:
    cold = replace(TWO_NODES, demand=[[[0.0, 0.0, 1.0, 1.0], [1.0] * 4]])
    assert after(cold, HOT)[0].owners_of(0) == (1,)
