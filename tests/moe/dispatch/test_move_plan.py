"""From counts to pieces: every row leaves once, and comes to the place that the promised order gives it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixtralkit.dist.topology import Topology
from mixtralkit.moe.dispatch.collective import _expert_major
from mixtralkit.moe.dispatch.move_plan import MovePlan, plan_moves
from mixtralkit.moe.dispatch.row_mover import Piece
from mixtralkit.moe.placement.plan import even_split
from mixtralkit.moe.placement.routes import Routes, routes_of


def _routes(ranks: int, experts: int, replicas: list[tuple[int, int]]) -> list[Routes]:
    placement = even_split(experts, ranks)
    for expert, rank in replicas:
        placement = placement.with_replica(expert % experts, rank % ranks)
    return [routes_of(placement, Topology((0,) * ranks), rank) for rank in range(ranks)]


def test_an_example_by_hand() -> None:
    """Two ranks, four experts: rank 1 has experts 2 and 3; rank 0 has no row for expert 2."""
    plan = plan_moves([[1, 2, 0, 3], [4, 0, 5, 6]], _routes(2, 4, [])[1])
    assert plan == MovePlan(
        sends=(Piece(0, 0, 4), Piece(1, 4, 5), Piece(1, 9, 6)),
        receives=(Piece(1, 0, 5), Piece(0, 5, 3), Piece(1, 8, 6)),
        counts_e=[5, 9],
    )


@st.composite
def _worlds(draw: st.DrawFn) -> tuple[list[Routes], list[list[int]]]:
    ranks, experts = draw(st.integers(1, 5)), draw(st.integers(1, 8))
    replicas = draw(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 4)), max_size=6))
    counts = st.lists(st.integers(0, 3), min_size=experts, max_size=experts)
    return _routes(ranks, experts, replicas), draw(st.lists(counts, min_size=ranks, max_size=ranks))


@given(_worlds())
@settings(deadline=None, max_examples=60)
def test_rows_go_where_the_collective_dispatch_puts_them(world: tuple[list[Routes], list[list[int]]]) -> None:
    """Played through with names for rows, against the sorting that CollectiveDispatch does of what arrives."""
    routes, counts_WE = world
    plans = [plan_moves(counts_WE, own) for own in routes]
    for rank, own in enumerate(routes):
        assert _arrived(plans, counts_WE, rank) == _sorted_by_collective(own, counts_WE)
        mine = [[counts_WE[w][e] for w in range(len(routes)) if own.owner_WE[w][e] == rank] for e in own.local_experts]
        assert plans[rank].counts_e == [sum(counts) for counts in mine]


def _rows(counts_E: list[int], rank: int) -> list[tuple[int, int, int]]:
    """A rank's rows, by expert: expert, source and number."""
    return [(expert, rank, row) for expert, count in enumerate(counts_E) for row in range(count)]


def _arrived(plans: list[MovePlan], counts_WE: list[list[int]], rank: int) -> list[tuple[int, int, int]]:
    """What is at `rank` when each pair's pieces have been matched in the order in which both name them."""
    rows: list[tuple[int, int, int] | None] = [None] * sum(plans[rank].counts_e)
    for source, plan in enumerate(plans):
        sent = [piece for piece in plan.sends if piece.rank == rank]
        received = [piece for piece in plans[rank].receives if piece.rank == source]
        for out, into in zip(sent, received, strict=True):
            assert out.rows == into.rows
            rows[into.first : into.first + into.rows] = _rows(counts_WE[source], source)[
                out.first : out.first + out.rows
            ]
    assert None not in rows
    return [row for row in rows if row is not None]


def _sorted_by_collective(own: Routes, counts_WE: list[list[int]]) -> list[tuple[int, int, int]]:
    """What an all-to-all brings, by source and then by expert, in the order of `_expert_major`."""
    comes = [[int(owners[e] == own.rank) for e in own.local_experts] for owners in own.owner_WE]
    mine_We = torch.tensor(counts_WE)[:, list(own.local_experts)] * torch.tensor(comes)
    brought = [
        (expert, source, row)
        for source, counts_e in enumerate(mine_We.tolist())
        for expert, count in zip(own.local_experts, counts_e, strict=True)
        for row in range(count)
    ]
    return [brought[place] for place in _expert_major(mine_We).tolist()]


@pytest.mark.parametrize("ranks", [1, 3])
def test_no_rows_are_no_pieces(ranks: int) -> None:
    """NCCL would carry empty messages too, and take its time for them."""
    for own in _routes(ranks, 4, []):
        assert plan_moves([[0] * 4] * ranks, own).sends == ()
        assert plan_moves([[0] * 4] * ranks, own).receives == ()
