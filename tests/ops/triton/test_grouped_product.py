"""Experts by torch's grouped product, which has a form for the CPU too: against the definition in float64."""

from collections.abc import Iterator

import pytest
import torch

from mixtralkit.ops import grouped_product
from mixtralkit.ops.expert_mlp import expert_mlp
from mixtralkit.ops.grouped_product import expert_rows
from mixtralkit.ops.matrices import Matrices

EXPERTS, DIM, HIDDEN = 4, 64, 96


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For any number of rows, and on any device."""
    monkeypatch.setattr(grouped_product, "is_grouped", lambda rows, x, weights: True)
    with torch.no_grad():
        yield


def _experts(device: torch.device) -> Matrices:
    """Laid out as loading does it: w1, w3, w2 of each."""
    memory = torch.randn(EXPERTS, 3 * HIDDEN, DIM, device=device)
    memory[:, : 2 * HIDDEN] *= DIM**-0.5
    memory[:, 2 * HIDDEN :] *= HIDDEN**-0.5
    memory = memory.bfloat16()
    trios = ((part[:HIDDEN], part[2 * HIDDEN :].view(DIM, HIDDEN), part[HIDDEN : 2 * HIDDEN]) for part in memory)
    return Matrices([weight for trio in trios for weight in trio])


def _exact(x: torch.Tensor, expert: int, weights: Matrices) -> torch.Tensor:
    w1, w2, w3 = (weight.cpu().double() for weight in weights.matrices[3 * expert : 3 * expert + 3])  # type: ignore[union-attr]
    gate = w1 @ x.cpu().double()
    return w2 @ (gate * torch.sigmoid(gate) * (w3 @ x.cpu().double()))


TOLERANCE = 10 * torch.finfo(torch.bfloat16).eps  # of results up to 4, each product rounded; the interpreter cuts off


@pytest.mark.parametrize("ids", [[[0, 2], [2, 3], [3, 0], [2, 0], [0, 3]], [[2]] * 7, [[0, 1, 2, 3]]])
def test_each_pair_gets_its_expert(kernels: torch.device, ids: list[list[int]]) -> None:
    """Also with experts without rows, in front, between and behind."""
    weights, top_k = _experts(kernels), len(ids[0])
    x = torch.randn(len(ids), DIM, device=kernels).bfloat16()
    flat = [expert for chosen in ids for expert in chosen]
    pairs = torch.tensor(sorted(range(len(flat)), key=flat.__getitem__), device=kernels)
    counts = torch.tensor([flat.count(expert) for expert in range(EXPERTS)], device=kernels)
    found = expert_rows(x, pairs, counts, top_k, weights)
    assert (found.shape, found.dtype) == ((len(flat), DIM), torch.bfloat16)
    for pair, expert in enumerate(flat):
        assert (found[pair].cpu().double() - _exact(x[pair // top_k], expert, weights)).abs().max() <= TOLERANCE


@pytest.mark.parametrize("counts", [(3, 0, 5, 1), (0, 4, 0, 0)])
def test_rows_behind_the_counts_are_nobodys(kernels: torch.device, counts: tuple[int, ...]) -> None:
    """`expert_mlp` with counts on the device, as dispatches of a fixed size call it."""
    weights, used = _experts(kernels), sum(counts)
    rows = torch.randn(used + 6, DIM, device=kernels).bfloat16()
    rows[used:] = torch.nan
    found = expert_mlp(rows, torch.tensor(counts, device=kernels), weights)
    owners = [expert for expert, count in enumerate(counts) for _ in range(count)]
    assert found.shape == rows.shape
    for row, expert in enumerate(owners):
        assert (found[row].cpu().double() - _exact(rows[row], expert, weights)).abs().max() <= TOLERANCE


@pytest.mark.parametrize(("rows", "width"), [(0, 8), (3, 40), (2, 1030)])
def test_gated_halves(device: torch.device, rows: int, width: int) -> None:
    """Float32: some units in the last place of results up to 10."""
    from mixtralkit.ops.triton.gated_kernels import gated_halves

    both = torch.randn(rows, 2 * width, device=device)
    gate, up = both.double().chunk(2, dim=1)
    torch.testing.assert_close(gated_halves(both).double(), gate * torch.sigmoid(gate) * up, rtol=1e-6, atol=1e-6)


def test_on_a_cpu_and_for_few_rows_it_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    weights = _experts(torch.device("cpu"))
    assert weights.expert_stacks is not None
    assert not grouped_product.is_grouped(10**6, torch.zeros(1, DIM).bfloat16(), weights)
