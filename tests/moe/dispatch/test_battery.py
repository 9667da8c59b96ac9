"""Every dispatch, at 1 to 4 real ranks, against loops in float64."""

from typing import Any

import pytest
import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.errors import RankFailure
from mixtralkit.moe.dispatch.agreement import gather_counts
from tests.dispatches import PEER, SPREAD
from tests.moe.dispatch.battery import (
    STEPS,
    TINY_SLOTS,
    Case,
    cases,
    expected_results,
    expected_rows,
    inputs,
    names_of,
    run_cases,
)
from tests.ranks import run_ranks

ALL = [*SPREAD, *([TINY_SLOTS, *STEPS] if PEER else []), "nccl", "fixed"]
NAMES = {1: ["local", *ALL]} | dict.fromkeys((2, 3, 4), ALL)
RUNS = [(size, name, case) for size, names in NAMES.items() for case in cases(size) for name in names_of(case, names)]

# Sums of a dozen products of numbers near 1: float32 rounds at 1e-7 each, bfloat16 at 4e-3.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 4e-2}


@pytest.fixture(scope="module")
def seen() -> dict[int, list[dict[tuple[str, str], dict[str, Any]]]]:
    """What every rank saw in every case, by world size: one start of the ranks for all of them."""
    return {size: run_ranks(size, run_cases, names) for size, names in NAMES.items()}


@pytest.fixture(params=RUNS, ids=lambda run: f"{run[0]}-{run[1]}-{run[2].name}")
def run(request: pytest.FixtureRequest, seen: dict[int, Any]) -> tuple[Case, list[dict[str, Any]]]:
    size, name, case = request.param
    return case, [results[name, case.name] for results in seen[size]]


def test_rows_and_counts(run: tuple[Case, list[dict[str, Any]]]) -> None:
    """The rows that reach a rank are those of its experts, all of them, in the promised order, bit for bit."""
    case, ranks = run
    for rank, result in enumerate(ranks):
        rows, counts = expected_rows(case, rank)
        assert result["counts"] == counts
        assert torch.equal(result["rows"], torch.stack(rows) if rows else torch.empty(0, case.width, dtype=case.dtype))


def test_identity_experts_give_the_input_back(run: tuple[Case, list[dict[str, Any]]]) -> None:
    """Weights add up to 1, so experts that change nothing give back what went in (2 x, in the second dispatch)."""
    case, ranks = run
    for rank, result in enumerate(ranks):
        assert result["twice"].dtype == case.dtype
        _close(result["twice"], 2 * inputs(case, rank).x_TD.double(), case)


def test_results_and_gradients(run: tuple[Case, list[dict[str, Any]]]) -> None:
    """Output and the gradients of tokens, weights and experts equal those of the loops."""
    case, ranks = run
    for result, answer in zip(ranks, expected_results(case), strict=True):
        _close(result["out"], answer["out"], case)
        for name in ("grad_x", "grad_weights"):
            _close(result[name], answer[name], case)
        for got, wanted in zip(result["grad_matrices"], answer["grad_matrices"], strict=True):
            _close(got, wanted, case, terms=sum(case.tokens))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_sum_does_not_depend_on_the_dispatch(size: int, seen: dict[int, Any]) -> None:
    """The same bits from every dispatch, for one expert's matrix product of the same shape on every side."""
    for case in cases(size):
        for results in seen[size]:
            outs = [results[name, case.name]["twice"] for name in names_of(case, NAMES[size])]
            assert all(torch.equal(out, outs[0]) for out in outs)


def test_ranks_that_disagree_about_a_row_say_so() -> None:
    """Otherwise gloo aborts the process without a word about which rank is wrong."""
    messages = run_ranks(3, _disagree)
    assert len(set(messages)) == 1
    assert "rank 2 sends rows of 8 x torch.float32, rank 0 rows of 4 x torch.float32" in messages[0]


def _disagree(collectives: Collectives) -> str:
    width = 8 if collectives.rank == 2 else 4
    with pytest.raises(RankFailure) as error:
        gather_counts(collectives, torch.zeros(3, dtype=torch.int64), torch.zeros(1, width))
    return str(error.value)


def _close(got: torch.Tensor | None, wanted: torch.Tensor | None, case: Case, terms: int = 12) -> None:
    """NaN fails; no gradient at all is right where no row depends on the input.

    `terms` is how many numbers a sum has at most: the rounding of each grows with the sum so far.
    """
    if got is None or wanted is None:
        assert all(t is None or not t.any() for t in (got, wanted))
        return
    tolerance = TOLERANCE[case.dtype] * max(1.0, terms / 24)
    torch.testing.assert_close(got.double(), wanted, atol=tolerance, rtol=tolerance)
