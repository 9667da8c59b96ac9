"""A row's product has the same bits whatever call it is in: the ground under "every strategy gives the same text"."""

import pytest
import torch

from mixtralkit.ops.linear import linear, side_by_side
from mixtralkit.ops.matrices import Matrices
from mixtralkit.ops.quantize import quantize
from mixtralkit.ops.quantized_weight import Matrix, QuantKind

# (inputs, outputs): the demo checkpoint's, the tests' odd models', and some of Mixtral 8x7B's proportions.
SHAPES = ((256, 256), (256, 128), (128, 256), (256, 8), (256, 3072), (32, 8), (36, 50), (10, 61), (1024, 3584))
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
KINDS = (*DTYPES, *QuantKind)
COUNTS = (1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 100, 128, 255, 1000)


def operands(
    inputs: int, outputs: int, kind: torch.dtype | QuantKind, rows: int = max(COUNTS)
) -> tuple[torch.Tensor, Matrix]:
    weight = torch.randn(outputs, inputs) * inputs**-0.5
    return torch.randn(rows, inputs), quantize(weight, kind) if isinstance(kind, QuantKind) else weight.to(kind)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
@torch.no_grad()
def test_a_row_has_the_same_bits_in_every_call(inputs: int, outputs: int, kind: torch.dtype | QuantKind) -> None:
    if isinstance(kind, QuantKind) and inputs % 64:
        pytest.skip("not a whole number of groups")
    x, weight = operands(inputs, outputs, kind)
    torch.set_num_threads(1)
    alone = torch.cat([linear(x[i : i + 1], weight) for i in range(40)])
    for threads in (1, 2, 16):
        torch.set_num_threads(threads)
        for count in COUNTS:
            assert torch.equal(linear(x[:count], weight)[:40], alone[:count]), (threads, count)
        for start in (1, 13, 16):
            assert torch.equal(linear(x[start : start + 20], weight), alone[start : start + 20]), (threads, start)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_the_bits_do_not_depend_on_where_the_operands_lie(dtype: torch.dtype) -> None:
    """Weights may be views into a mapped file, aligned to no more than their elements."""
    x, weight = operands(256, 128, dtype, rows=20)
    assert isinstance(weight, torch.Tensor)
    expected = linear(x, weight)
    for offset in (1, 3, 8, 16):
        moved_x = torch.cat((x.new_zeros(offset), x.flatten()))[offset:].view_as(x)
        moved_weight = torch.cat((weight.new_zeros(offset), weight.flatten()))[offset:].view_as(weight)
        assert torch.equal(linear(moved_x, moved_weight), expected), offset


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_matrices_side_by_side(kind: torch.dtype | QuantKind) -> None:
    """The same bits as one after the other."""
    x, first = operands(128, 48, kind, rows=9)
    second = operands(128, 21, kind)[1]
    assert torch.equal(
        side_by_side(x, Matrices([first, second])), torch.cat((linear(x, first), linear(x, second)), dim=1)
    )


@torch.no_grad()
def test_matrices_of_several_kinds_side_by_side() -> None:
    x, first = operands(128, 48, QuantKind.INT8, rows=9)
    second = operands(128, 21, torch.bfloat16)[1]
    assert torch.equal(
        side_by_side(x, Matrices([first, second])), torch.cat((linear(x, first), linear(x, second)), dim=1)
    )


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [0, 1, 16, 21])
@torch.no_grad()
def test_it_is_the_product(rows: int, dtype: torch.dtype) -> None:
    """Against float64: 256 products of size 1/16, in float32; bfloat16 may have rounded the inputs by 2 ** -9 each."""
    x, weight = operands(256, 128, dtype, rows)
    assert isinstance(weight, torch.Tensor)
    exact = x.double() @ weight.double().T
    assert torch.allclose(linear(x, weight).double(), exact, rtol=0, atol=2e-2 if dtype == torch.bfloat16 else 5e-6)


def test_gradients_are_those_of_the_product() -> None:
    x = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(linear, (x, weight))
