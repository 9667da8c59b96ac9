"""A row's product has the same bits whatever call it is in: the ground under "every strategy gives the same text"."""

import pytest
import torch

from mixtralkit.ops.linear import linear

# (inputs, outputs): the demo checkpoint's, the tests' odd models', and some of Mixtral 8x7B's proportions.
SHAPES = ((256, 256), (256, 128), (128, 256), (256, 8), (256, 3072), (32, 8), (36, 50), (10, 61), (1024, 3584))
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
COUNTS = (1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 100, 128, 255, 1000)


def operands(inputs: int, outputs: int, dtype: torch.dtype, rows: int = max(COUNTS)) -> tuple[torch.Tensor, ...]:
    return torch.randn(rows, inputs).to(dtype), (torch.randn(outputs, inputs) * inputs**-0.5).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
@torch.no_grad()
def test_a_row_has_the_same_bits_in_every_call(inputs: int, outputs: int, dtype: torch.dtype) -> None:
    x, weight = operands(inputs, outputs, dtype)
    torch.set_num_threads(1)
    alone = torch.cat([linear(x[i : i + 1], weight) for i in range(40)])
    for threads in (1, 2, 16):
        torch.set_num_threads(threads)
        for count in COUNTS:
            assert torch.equal(linear(x[:count], weight)[:40], alone[:count]), (threads, count)
        for start in (1, 13, 16):
            assert torch.equal(linear(x[start : start + 20], weight), alone[start : start + 20]), (threads, start)


@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_the_bits_do_not_depend_on_where_the_operands_lie(dtype: torch.dtype) -> None:
    """Weights may be views into a mapped file, aligned to no more than their elements."""
    x, weight = operands(256, 128, dtype, rows=20)
    expected = linear(x, weight)
    for offset in (1, 3, 8, 16):
        moved_x = torch.cat((x.new_zeros(offset), x.flatten()))[offset:].view_as(x)
        moved_weight = torch.cat((x.new_zeros(offset), weight.flatten()))[offset:].view_as(weight)
        assert torch.equal(linear(moved_x, moved_weight), expected), offset


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [0, 1, 16, 21])
@torch.no_grad()
def test_it_is_the_product(rows: int, dtype: torch.dtype) -> None:
    """Against float64: a sum of 256 products of size 1/16 is of size 1, rounded once to dtype, plus float32's error."""
    x, weight = operands(256, 128, dtype, rows)
    exact = x.double() @ weight.double().T
    assert torch.allclose(linear(x, weight).double(), exact, rtol=torch.finfo(dtype).eps, atol=2e-6)


def test_gradients_are_those_of_the_product() -> None:
    x = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(linear, (x, weight))
