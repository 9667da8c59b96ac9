"""A capacity over every dispatch, at one and at three real ranks, against loops in float64."""

import math
from typing import Any

import pytest
import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.moe.capacity import Capacity
from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.dispatch.limited import LimitedDispatch
from mixtralkit.moe.dispatch.local import LocalDispatch
from mixtralkit.moe.dispatch.transport import Transport
from mixtralkit.moe.routing import Routing
from tests.dispatches import SPREAD
from tests.moe.dispatch.battery import Case, expert_matrix, inputs
from tests.ranks import run_ranks

CAPACITIES = {
    "enough": Capacity(8.0),
    "half": Capacity(0.5, minimum=1),
    "cold experts only": Capacity(None, cold_factor=0.25),
    "warm and cold": Capacity(1.0, cold_factor=0.25),
}
# Sums of a dozen products of numbers near 1: float32 rounds at 1e-7 each, bfloat16 at 4e-3.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 4e-2}


def _cases(world_size: int) -> list[Case]:
    even = (9,) * world_size
    return [
        Case("plain", 8, 2, tuple(7 + rank for rank in range(world_size))),
        Case("top 1 to one expert", 4, 1, even, one_expert=True),
        Case("top 3 in bfloat16, with a replica", 5, 3, even, dtype=torch.bfloat16, replicas=((0, 1),)),
        Case("an idle rank", 8, 2, (*even[1:], 0)),
        Case("no tokens anywhere", 4, 2, (0,) * world_size),
    ]


NAMES = {1: ["local"], 3: SPREAD}
CASES = [(size, name, case) for size, names in NAMES.items() for name in names for case in _cases(size)]


def _through(dispatch: Dispatch, case: Case, rank: int) -> dict[str, Any]:
    """Rows, results and gradients of a rank whose experts multiply by their matrices."""
    given = inputs(case, rank)
    x, weights = given.x_TD.clone().requires_grad_(), given.routing.weights_TK.clone().requires_grad_()
    rows, counts, handle = dispatch.dispatch(x, Routing(given.routing.expert_ids_TK, weights))
    matrices = [expert_matrix(case, expert) for expert in case.placement.experts_of(rank)]
    results = torch.cat([part @ matrix for part, matrix in zip(rows.split(counts), matrices, strict=True)])
    out = dispatch.combine(results, handle)
    torch.autograd.backward(out, given.grad_TD)
    return {"rows": rows.detach(), "counts": counts, "out": out.detach(), "x": x.grad, "weights": weights.grad}


def _run_all(collectives: Collectives, names: list[str]) -> dict[tuple[str, str, str], dict[str, Any]]:
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    seen = {}
    for name in names:
        for case in _cases(collectives.size):
            routes = case.routes(collectives.rank)
            inner = Transport(collectives, case.num_experts).dispatch(name, routes)
            held = torch.tensor([expert in routes.local_experts for expert in range(case.num_experts)])
            seen[name, case.name, "none"] = _through(inner, case, collectives.rank)
            for capacity, limits in CAPACITIES.items():
                dropped = torch.zeros(case.num_experts, dtype=torch.int64)
                result = _through(LimitedDispatch(inner, limits, held, dropped), case, collectives.rank)
                seen[name, case.name, capacity] = {**result, "dropped": dropped.tolist()}
    return seen


@pytest.fixture(scope="module")
def seen() -> dict[int, list[dict[tuple[str, str, str], dict[str, Any]]]]:
    """What every rank saw, by world size: one start of the ranks for all cases."""
    return {size: run_ranks(size, _run_all, names) for size, names in NAMES.items()}


def _kept(case: Case, rank: int, capacity: Capacity) -> list[tuple[int, int, int]]:
    """The (token, k, expert) of the rows that a rank keeps, expert by expert."""
    routing = inputs(case, rank).routing
    kept = []
    for expert in range(case.num_experts):
        cold = expert not in case.placement.experts_of(rank) and capacity.cold_factor is not None
        factor = capacity.cold_factor if cold else capacity.factor
        rows = [(t, k) for t, k in (routing.expert_ids_TK == expert).nonzero().tolist()]
        rows.sort(key=lambda row: (-float(routing.weights_TK[row]), row))
        share = case.tokens[rank] * case.top_k / case.num_experts
        limit = len(rows) if factor is None else max(capacity.minimum, math.ceil(factor * share))
        kept += [(t, k, expert) for t, k in rows[:limit]]
    return kept


def _expected(case: Case, rank: int, capacity: Capacity) -> dict[str, torch.Tensor]:
    """Output and gradients by a loop over the rows kept."""
    given = inputs(case, rank)
    x, weights = given.x_TD.double().requires_grad_(), given.routing.weights_TK.double().requires_grad_()
    out = torch.zeros_like(x) + 0 * x + 0 * weights.sum()
    for t, k, expert in _kept(case, rank, capacity):
        row = weights[t, k] * (x[t] @ expert_matrix(case, expert).double())
        out = out.index_add(0, torch.tensor([t]), row[None])
    torch.autograd.backward(out, given.grad_TD.double())
    assert x.grad is not None
    assert weights.grad is not None
    return {"out": out.detach(), "x": x.grad, "weights": weights.grad}


@pytest.mark.parametrize("capacity", CAPACITIES)
@pytest.mark.parametrize(("size", "name", "case"), CASES, ids=lambda value: getattr(value, "name", value))
def test_results_gradients_and_what_was_dropped(size: int, name: str, case: Case, capacity: str, seen: Any) -> None:
    for rank, results in enumerate(seen[size]):
        result, limits = results[name, case.name, capacity], CAPACITIES[capacity]
        for what, wanted in _expected(case, rank, limits).items():
            got = torch.zeros_like(wanted) if result[what] is None else result[what].double()
            torch.testing.assert_close(got, wanted, atol=TOLERANCE[case.dtype], rtol=TOLERANCE[case.dtype])
        kept = [expert for _, _, expert in _kept(case, rank, limits)]
        sent = inputs(case, rank).routing.expert_ids_TK.flatten().tolist()
        assert result["dropped"] == [sent.count(expert) - kept.count(expert) for expert in range(case.num_experts)]


@pytest.mark.parametrize("size", NAMES)
def test_where_nothing_is_dropped_the_bits_are_those_of_the_dispatch(size: int, seen: Any) -> None:
    """The same rows in the same order, and the same sums."""
    for results in seen[size]:
        for name in NAMES[size]:
            for case in _cases(size):
                limited, plain = results[name, case.name, "enough"], results[name, case.name, "none"]
                assert sum(limited["dropped"]) == 0
                assert limited["counts"] == plain["counts"]
                assert torch.equal(limited["rows"], plain["rows"])
                assert torch.equal(limited["out"], plain["out"])


def _limited(factor: float, dropped_E: torch.Tensor) -> LimitedDispatch:
    return LimitedDispatch(LocalDispatch(4), Capacity(factor), torch.ones(4).bool(), dropped_E)


def test_a_token_without_rows_gets_zeros_and_the_drops_add_up() -> None:
    """Three tokens to one expert that takes one row; two calls, the first combined last."""
    dropped = torch.zeros(4, dtype=torch.int64)
    dispatch, x = _limited(1.0, dropped), torch.ones(3, 8)
    routing = Routing(torch.full((3, 1), 2), torch.ones(3, 1))
    first, second = (dispatch.dispatch(scale * x, routing) for scale in (1, 2))
    assert dispatch.combine(second[0], second[2]).tolist() == [[2.0] * 8, [0.0] * 8, [0.0] * 8]
    assert dispatch.combine(first[0], first[2]).tolist() == [[1.0] * 8, [0.0] * 8, [0.0] * 8]
    assert dropped.tolist() == [0, 0, 4, 0]
