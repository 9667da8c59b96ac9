"""The gate's kernels against Python's sort and float64, and the rows' order against Python's stable sort."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixtralkit.ops.expert_sort import expert_sort
from mixtralkit.ops.gate import topk_gate

Choices = list[list[int]]

EXPERTS_AND_K = [(8, 2), (5, 2), (8, 1), (3, 3), (1, 1), (60, 6)]


def _best(row: list[float], top_k: int) -> list[int]:
    """Best first, of equal ones the lowest id, and what is not a number before all others."""
    return sorted(range(len(row)), key=lambda e: (-math.inf if math.isnan(row[e]) else -row[e], e))[:top_k]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [0, 1, 3, 17, 300])
@pytest.mark.parametrize(("experts", "top_k"), EXPERTS_AND_K)
def test_the_best_experts(kernels: torch.device, experts: int, top_k: int, tokens: int, dtype: torch.dtype) -> None:
    """In float32 from the same logits; an exponential on a GPU is off by 2 units in the last place, 1e-6 is several."""
    logits = torch.randn(tokens, experts).to(dtype)
    ids, weights = topk_gate(logits.to(kernels), top_k)
    assert (ids.dtype, weights.dtype, ids.shape) == (torch.int64, torch.float32, (tokens, top_k))
    assert ids.tolist() == [_best(row, top_k) for row in logits.tolist()]
    shares = torch.softmax(logits.double().gather(1, ids.cpu()), dim=-1)
    torch.testing.assert_close(weights.cpu(), shares.float(), rtol=0, atol=1e-6)


def test_of_equal_logits_the_lowest_id_comes_first(kernels: torch.device) -> None:
    logits = torch.randint(0, 3, (50, 8)).float()
    ids, _ = topk_gate(logits.to(kernels), 3)
    assert ids.tolist() == [_best(row, 3) for row in logits.tolist()]


def test_logits_that_are_not_finite(kernels: torch.device) -> None:
    """Whatever they are, ids are those of experts: the kernels behind read memory by them."""
    inf, nan = math.inf, math.nan
    rows = [[-inf] * 3, [-inf, 1, -inf], [nan] * 3, [1, nan, 2], [-inf, nan, -inf], [1e30, -1e30, 9e29]]
    ids, weights = topk_gate(torch.tensor(rows, device=kernels), 2)
    assert ids.tolist() == [_best(row, 2) for row in rows]
    assert weights[1].tolist() == [1.0, 0.0]
    assert weights[5].tolist() == [1.0, 0.0]
    assert weights[[0, 2, 3, 4]].isnan().all()


def _sorted(choices: Choices, order: list[int]) -> tuple[list[int], list[int]]:
    flat = [expert for choice in choices for expert in choice]
    places = sorted(range(len(flat)), key=lambda row: order.index(flat[row]))
    return places, [flat.count(expert) for expert in order]


@st.composite
def problems(draw: st.DrawFn) -> tuple[Choices, list[int]]:
    """Up to some tiles of tokens; a token may have an expert more than once, and an expert may have none."""
    experts, top_k = draw(st.integers(1, 9)), draw(st.integers(1, 3))
    tokens = draw(st.sampled_from([0, 1, 3, 16, 17, 31, 50]))
    among = draw(st.lists(st.integers(0, experts - 1), min_size=1))
    seed = draw(st.integers(0, 99))
    picks = torch.randint(0, len(among), (tokens, top_k), generator=torch.Generator().manual_seed(seed)).tolist()
    return [[among[pick] for pick in row] for row in picks], draw(st.permutations(range(experts)))


@pytest.mark.parametrize("tile", [16, 1024])
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])  # the same for all problems
@given(problem=problems())
def test_rows_in_the_order_of_experts(kernels: torch.device, tile: int, problem: tuple[Choices, list[int]]) -> None:
    """With tiles of 16 tokens several programs find their places from each other's counts."""
    from mixtralkit.ops.triton import sort_kernels

    choices, order = problem
    ids = torch.tensor(choices, dtype=torch.int64, device=kernels).view(len(choices), -1 if choices else 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sort_kernels, "_MOST_TOKENS", tile)
        pairs, counts = expert_sort(ids, torch.tensor(order, device=kernels))
    assert (pairs.dtype, counts.dtype) == (torch.int64, torch.int64)
    assert (pairs.tolist(), counts.tolist()) == _sorted(choices, order)


@pytest.mark.parametrize("tile", [16, 1024])
@pytest.mark.parametrize("tokens", [0, 1, 3, 17, 70])
@pytest.mark.parametrize(("experts", "top_k"), EXPERTS_AND_K)
def test_gate_and_sort_together(
    kernels: torch.device, monkeypatch: pytest.MonkeyPatch, experts: int, top_k: int, tokens: int, tile: int
) -> None:
    from mixtralkit.ops.triton import sort_kernels
    from mixtralkit.ops.triton.gate_kernels import sorted_gate

    monkeypatch.setattr(sort_kernels, "_MOST_TOKENS", tile)
    logits = torch.randn(tokens, experts, device=kernels)
    ids, weights, pairs, counts = sorted_gate(logits, top_k)
    assert all(torch.equal(a, b) for a, b in zip((ids, weights), topk_gate(logits, top_k), strict=True))
    assert (pairs.tolist(), counts.tolist()) == _sorted(ids.tolist(), list(range(experts)))


def test_more_tiles_than_are_counted_at_once(kernels: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    from mixtralkit.ops.triton import sort_kernels

    monkeypatch.setattr(sort_kernels, "_MOST_TOKENS", 16)
    monkeypatch.setattr(sort_kernels, "_COUNTS", 2)
    ids = torch.randint(0, 4, (75, 2))
    pairs, counts = expert_sort(ids.to(kernels), torch.arange(4, device=kernels))
    assert (pairs.tolist(), counts.tolist()) == _sorted(ids.tolist(), list(range(4)))
