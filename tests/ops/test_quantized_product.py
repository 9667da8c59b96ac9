"""The reference of the quantized product against float64, and its promise about a row's bits."""

import pytest
import torch

from mixtralkit.ops.quantize import quantize, quantize_rows
from mixtralkit.ops.quantized_product import quantized_linear_reference
from mixtralkit.ops.quantized_weight import QuantKind

INTEGERS = (QuantKind.INT8, QuantKind.INT4)


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(5, 192, 40), (1, 64, 16), (3, 128, 1)])
def test_it_is_the_product_of_what_the_integers_stand_for(
    kind: QuantKind, rows: int, inputs: int, outputs: int
) -> None:
    """To float32's rounding: at most 4 roundings a group of numbers that are at most a few hundred."""
    x, weight = torch.randn(rows, inputs), quantize(torch.randn(outputs, inputs), kind)
    q_RD, scales_Rg = quantize_rows(x)
    meant = (q_RD.double().unflatten(1, (-1, 64)) * scales_Rg.double().unsqueeze(-1)).flatten(1)
    expected = meant @ weight.dequantize().double().T
    found = quantized_linear_reference(x, weight)
    assert found.shape == (rows, outputs)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=5e-5)


@pytest.mark.parametrize(("kind", "most"), [(QuantKind.INT8, 0.01), (QuantKind.INT4, 0.09), (QuantKind.FP8, 0.03)])
def test_it_is_near_the_product_of_the_weights(kind: QuantKind, most: float) -> None:
    """Relative errors of normal numbers: 0.006 for integer rows; 0.006, 0.081 or 0.027 for weights, with 512 inputs."""
    x, weights = torch.randn(20, 512), torch.randn(64, 512)
    found, exact = quantized_linear_reference(x, quantize(weights, kind)), x @ weights.T
    assert float((found - exact).norm() / exact.norm()) < most


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(5, 192, 40), (1, 64, 16), (3, 16_384, 70)])
def test_fp8_keeps_the_rows(rows: int, inputs: int, outputs: int) -> None:
    """Also where a matrix goes through in several pieces. Sums of n products are far below n, so are n roundings."""
    x, weight = torch.randn(rows, inputs), quantize(torch.randn(outputs, inputs), QuantKind.FP8)
    found, expected = quantized_linear_reference(x, weight), x.double() @ weight.dequantize().double().T
    assert (found.dtype, found.shape) == (torch.float32, (rows, outputs))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=inputs * 2.0**-23)


@pytest.mark.parametrize("kind", QuantKind)
def test_a_row_is_the_same_in_any_company(kind: QuantKind) -> None:
    x, weight = torch.randn(37, 256), quantize(torch.randn(48, 256), kind)
    alone = torch.cat([quantized_linear_reference(row[None], weight) for row in x])
    for threads in (1, 2):
        torch.set_num_threads(threads)
        assert torch.equal(quantized_linear_reference(x, weight), alone)
    assert quantized_linear_reference(x[:0], weight).shape == (0, 48)


@pytest.mark.parametrize("kind", QuantKind)
def test_what_is_not_finite_stays_in_its_row(kind: QuantKind) -> None:
    x, weight = torch.randn(3, 128), quantize(torch.randn(16, 128), kind)
    expected = quantized_linear_reference(x, weight)
    x[1, 70] = float("inf")
    found = quantized_linear_reference(x, weight)
    assert not found[1].isfinite().any()
    assert torch.equal(found[::2], expected[::2])
