"""Placements that follow the load on real ranks: the same bits before, while and after, all switching together."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pytest
import torch
from torch import nn

from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology
from mixtralkit.errors import CheckpointError, RankFailure
from mixtralkit.moe import adaptive
from mixtralkit.moe.placement.plan import Placement
from mixtralkit.moe.placement.rebalance import Demand
from mixtralkit.moe.timeline import REPLICAS
from tests.random_model import TINY, random_model
from tests.ranks import run_ranks
from tests.steered_model import SLOW_LINKS, PromptTransfer, Setup, Steered, fetch_from, steer

Placements = tuple[Placement, ...]
Spoil = Callable[[int, int, nn.Module], nn.Module]  # what becomes of a fetched expert, by layer and number


@dataclass(frozen=True)
class Seen:
    """What a rank saw: in each round the placements, and whether its logits had the bits of one process; at the end its
    experts by layer, its counts and what was said.
    """

    placements: list[Placements]
    same_bits: list[bool]
    held: dict[int, list[int]]
    moves: dict[str, Any]
    said: list[str]
    fetched: list[tuple[int, int]]
    transfers: int


def demand_for(hot: dict[int, int], size: int) -> list[list[list[float]]]:
    """Every rank has 100 rows for the hot expert of a layer and none for the others; other layers have no rows."""
    return [
        [[100.0 * (hot.get(layer) == expert) for expert in range(TINY.num_experts)] for _ in range(size)]
        for layer in range(TINY.num_layers)
    ]


def follow(collectives: Collectives, setup: Setup, demands: Sequence[Demand], spoil: Spoil | None) -> Seen:
    """Look at one demand after the other, with a forward pass after each look."""
    adaptive.Transfer = PromptTransfer  # type: ignore[assignment,misc]
    said = _listen()
    fetched: list[tuple[int, int]] = []
    whole, tokens = random_model(TINY), _tokens(collectives.rank)
    with torch.inference_mode():
        expected = whole(tokens)
    good = fetch_from(whole)

    def fetch(layer: int, expert: int) -> nn.Module:
        fetched.append((layer, expert))
        module = good(layer, expert)
        return module if spoil is None else spoil(layer, expert, module)

    steered = steer(random_model(TINY), collectives, setup, fetch)
    placements, same_bits = [], []
    for demand in demands:
        steered.adaptive.look(demand, tokens_a_step=100.0)
        placements.append(steered.steering.placements)
        with torch.inference_mode():
            same_bits.append(torch.equal(steered.model(tokens), expected))
    return _seen(steered, placements, same_bits, said, fetched)


def _seen(
    steered: Steered,
    placements: list[Placements],
    same_bits: list[bool],
    said: list[str],
    fetched: list[tuple[int, int]],
) -> Seen:
    return Seen(
        placements=placements,
        same_bits=same_bits,
        held={layer: sorted(steered.arrangement.held(layer)) for layer in range(TINY.num_layers)},
        moves=asdict(steered.adaptive.moves),
        said=said,
        fetched=fetched,
        transfers=sum(span.lane == REPLICAS for span in steered.timeline.spans),
    )


def _listen() -> list[str]:
    """What is logged in this process from now on."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("mixtralkit").addHandler(handler)
    return said


def _tokens(rank: int) -> torch.Tensor:
    return torch.randint(0, TINY.vocab_size, (1, 9 + rank), generator=torch.Generator().manual_seed(rank))


def _setup(size: int, places: int, dispatch: str = "collective") -> Setup:
    """Each rank is a node of its own, and links are slow: replicas pay."""
    return Setup((dispatch,), places=places, rates=SLOW_LINKS, topology=Topology(tuple(range(size))))


def check_agreement(ranks: list[Seen]) -> None:
    """All have the same placements in every round, hold what they say, and never compute anything else."""
    for rank, seen in enumerate(ranks):
        assert seen.placements == ranks[0].placements
        assert all(seen.same_bits)
        assert seen.held == {layer: list(placed.experts_of(rank)) for layer, placed in enumerate(seen.placements[-1])}
        assert seen.transfers == ranks[0].transfers
        assert {**seen.moves, "fetch_seconds": 0} == {**ranks[0].moves, "fetch_seconds": 0}


def owners(placements: Placements, layer: int, expert: int) -> tuple[int, ...]:
    return placements[layer].owners_of(expert)


@pytest.mark.parametrize("size", [2, 3])
def test_replicas_come_where_the_load_is_and_go_when_it_turns(size: int) -> None:
    """With room for one: expert 1 of layer 0 is hot, then expert 4 of layer 1. Its place must be free before."""
    first, then = demand_for({0: 1}, size), demand_for({1: 4}, size)
    ranks = run_ranks(size, follow, _setup(size, places=1), [first, first, then, then, then, then], None)
    check_agreement(ranks)
    rounds, everywhere = ranks[0].placements, tuple(range(size))
    assert owners(rounds[0], 0, 1) == (0,)  # on its way
    assert owners(rounds[1], 0, 1) == everywhere
    assert rounds[1][1] == rounds[0][1]
    assert owners(rounds[-1], 1, 4) == everywhere
    assert owners(rounds[-1], 0, 1) != everywhere
    most = [sum(len(placed.experts_of(rank)) for placed in rounds[0]) + 1 for rank in range(size)]
    for placements in rounds:
        assert all(sum(len(placed.experts_of(rank)) for placed in placements) <= most[rank] for rank in range(size))
    assert ranks[0].moves["replicas_fetched"] == 2 * (size - 1)
    assert ranks[0].moves["replicas_dropped"] == size - 1
    assert ranks[0].moves["replicas_refused"] == 0


def test_what_has_come_stays_while_it_pays() -> None:
    demand = demand_for({0: 1, 1: 4}, 2)
    ranks = run_ranks(2, follow, _setup(2, places=2), [demand] * 5, None)
    check_agreement(ranks)
    assert [seen.moves["switches"] for seen in ranks] == [1, 1]
    assert sum(len(seen.fetched) for seen in ranks) == ranks[0].moves["replicas_fetched"] == 2


def test_without_room_nothing_is_fetched() -> None:
    demand = demand_for({0: 1, 1: 4}, 2)
    ranks = run_ranks(2, follow, _setup(2, places=0), [demand] * 3, None)
    check_agreement(ranks)
    assert [seen.fetched for seen in ranks] == [[], []]
    assert [seen.moves["switches"] for seen in ranks] == [0, 0]


def raises(layer: int, expert: int, module: nn.Module) -> nn.Module:
    """Expert 1 of layer 0 is damaged in the file."""
    if (layer, expert) == (0, 1):
        raise CheckpointError("a.pth holds other bytes")
    return module


def flips(layer: int, expert: int, module: nn.Module) -> nn.Module:
    """One bit of expert 1 of layer 0 is another in this copy of the file."""
    if (layer, expert) == (0, 1):
        last = list(module.parameters())[-1]
        last.view(torch.int32)[-1, -1] ^= 1
    return module


@pytest.mark.parametrize(("spoil", "what"), [(raises, "was not fetched"), (flips, "differs from the one on rank 0")])
def test_a_replica_that_cannot_be_had_changes_nothing_for_anybody(spoil: Spoil, what: str) -> None:
    """Not even the good one of the same batch is used then; it comes the next time, and the bad one is left alone."""
    demand = demand_for({0: 1, 1: 0}, 3)
    ranks = run_ranks(3, follow, _setup(3, places=2), [demand] * 6, spoil)
    check_agreement(ranks)
    rounds = ranks[0].placements
    assert rounds[1] == rounds[0]
    assert owners(rounds[-1], 0, 1) == (0,)
    assert owners(rounds[-1], 1, 0) == (0, 1, 2)
    for seen in ranks:
        (notice,) = (line for line in seen.said if "the placement stays" in line)
        for rank in (1, 2):
            assert f"expert 1 of layer 0 on rank {rank} {what}" in notice
        assert (seen.moves["replicas_refused"], seen.moves["replicas_fetched"], seen.moves["switches"]) == (2, 2, 1)
    assert ranks[1].fetched.count((0, 1)) == 1
    if spoil is raises:
        assert any("a.pth holds other bytes" in line for line in ranks[1].said)


def test_a_refused_replica_leaves_its_place_to_others() -> None:
    """It is the better one by far, and there is room for one."""
    demand = demand_for({0: 1}, 2)
    demand[1][0][0] = demand[1][1][0] = 10.0
    ranks = run_ranks(2, follow, _setup(2, places=1), [demand] * 4, flips)
    check_agreement(ranks)
    assert owners(ranks[0].placements[-1], 0, 1) == (0,)
    assert owners(ranks[0].placements[-1], 1, 0) == (0, 1)


def _slow_rank(collectives: Collectives, setup: Setup, demand: Demand) -> list[Any]:
    """Rank 1's fetch ends only after three looks: nobody waits, and nobody switches before."""
    release = threading.Event()
    good = fetch_from(random_model(TINY))

    def fetch(layer: int, expert: int) -> nn.Module:
        if collectives.rank == 1:
            release.wait(30)
        return good(layer, expert)

    steered = steer(random_model(TINY), collectives, setup, fetch)
    switches = []
    for _ in range(4):
        steered.adaptive.look(demand, 100.0)
        switches.append(steered.adaptive.moves.switches)
    release.set()
    while not steered.adaptive.moves.switches:  # all ranks look equally often: the collectives in it pair them up
        steered.adaptive.look(demand, 100.0)
    return [switches, steered.steering.placements, steered.adaptive.moves.fetch_seconds > 0]


def test_nobody_waits_for_a_fetch_and_nobody_switches_alone() -> None:
    first, second = run_ranks(2, _slow_rank, _setup(2, places=1), demand_for({0: 1}, 2))
    assert first == second
    assert first[0] == [0, 0, 0, 0]
    assert first[2]


def _dissent(collectives: Collectives, setup: Setup, demand: Demand) -> tuple[str, list[int]]:
    """Rank 1 finds that everything may stay where it is, the others do not; what a rank hears, and what it fetched."""
    if collectives.rank == 1:
        adaptive.next_placements = lambda demand_LWE, current, *others, **limits: tuple(current)
    fetched: list[int] = []

    def fetch(layer: int, expert: int) -> nn.Module:
        fetched.append(expert)
        raise AssertionError("nothing is to be fetched")

    steered = steer(random_model(TINY), collectives, setup, fetch)
    with pytest.raises(RankFailure) as caught:
        steered.adaptive.look(demand, 100.0)
    return str(caught.value), fetched


def test_a_rank_that_decides_otherwise_is_named_before_anything_moves() -> None:
    """Without a comparison rank 1 would not take part in the exchanges of the others' transfer."""
    for message, fetched in run_ranks(3, _dissent, _setup(3, places=1), demand_for({0: 1}, 3)):
        assert message.startswith("rank 1 decided on another placement of the experts than rank 0")
        assert not fetched
