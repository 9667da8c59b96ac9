"""The experts over sorted rows, against a loop in float64."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from mixtralkit.ops.expert_mlp import expert_mlp
from mixtralkit.ops.matrices import Matrices

COUNTS = ((3, 0, 5, 1), (0, 0, 0, 0), (0, 9, 0, 0), (1, 1, 1, 1), (17, 16, 15, 33))


def weights(dtype: torch.dtype, width: int = 32, hidden: int = 48) -> list[list[torch.Tensor]]:
    shapes = ((hidden, width), (width, hidden), (hidden, width))
    return [[(torch.randn(shape) * shape[1] ** -0.5).to(dtype) for _ in range(4)] for shape in shapes]


def together(*weights: Sequence[torch.Tensor]) -> Matrices:
    return Matrices([matrix for expert in zip(*weights, strict=True) for matrix in expert])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("counts", COUNTS)
@torch.no_grad()
def test_each_expert_gets_its_rows(counts: tuple[int, ...], dtype: torch.dtype) -> None:
    """Against loops in float64.

    Results are of size 1 to 3, sums of 32 and 48 products in float32. With bfloat16 weights inputs and hidden elements
    may be rounded to bfloat16 before they are multiplied; a dozen eps bounds both.
    """
    rows, (w1, w2, w3) = torch.randn(sum(counts), 32), weights(dtype)
    found, start = expert_mlp(rows, counts, together(w1, w2, w3)), 0
    assert found.dtype == torch.float32
    for expert, count in enumerate(counts):
        x = rows[start : start + count].double()
        gate = x @ w1[expert].double().T
        exact = (gate * torch.sigmoid(gate) * (x @ w3[expert].double().T)) @ w2[expert].double().T
        error = (found[start : start + count].double() - exact).abs()
        eps = torch.finfo(torch.bfloat16 if dtype == torch.bfloat16 else torch.float32).eps
        assert (error <= 12 * eps).all()
        start += count


@pytest.mark.usefixtures("way")
@torch.no_grad()
def test_a_row_has_the_same_bits_whatever_rows_its_expert_gets() -> None:
    w1, w2, w3 = weights(torch.float32)
    x = torch.randn(40, 32)
    alone = expert_mlp(x[7:8], (0, 1, 0, 0), together(w1, w2, w3))
    crowded = expert_mlp(x, (4, 30, 0, 6), together(w1, w2, w3))
    assert torch.equal(crowded[7:8], alone)


def test_counts_that_do_not_add_up_are_refused() -> None:
    w1, w2, w3 = weights(torch.float32)
    with pytest.raises(ValueError, match="add up to 3, not to the 4 rows"):
        expert_mlp(torch.randn(4, 32), (1, 2, 0, 0), together(w1, w2, w3))


def test_gradients() -> None:
    def run(rows: torch.Tensor, *flat: torch.Tensor) -> Any:
        return expert_mlp(rows, (2, 0, 1), together(flat[:3], flat[3:6], flat[6:]))

    shapes = [(4, 3)] * 3 + [(3, 4)] * 3 + [(4, 3)] * 3
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in [(3, 3), *shapes]]
    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.usefixtures("way")
@torch.no_grad()
def test_counts_on_the_device_may_leave_rows_over() -> None:
    """The first rows have the bits that they have with the same counts in a list."""
    w1, w2, w3 = weights(torch.float32)
    x = torch.randn(12, 32)
    found = expert_mlp(x, torch.tensor([3, 0, 5, 1]), together(w1, w2, w3))
    assert found.shape == x.shape
    assert torch.equal(found[:9], expert_mlp(x[:9], [3, 0, 5, 1], together(w1, w2, w3)))
