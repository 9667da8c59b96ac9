"""The layout of quantized matrices, decoded here weight by weight from its description."""

import pytest
import torch

from mixtralkit.ops.quantized_weight import QuantizedWeight, QuantKind, empty_quantized, random_quantized


def decode(weight: QuantizedWeight, output: int, place: int) -> float:
    """One weight by the description in docs/checkpoints.md, in exact integers and float64."""
    if weight.kind is QuantKind.FP8:
        return float(weight.scales[output]) * fp8(int(weight.codes.view(torch.uint8)[output, place]))
    block, lane = divmod(output, 16)
    group, within = divmod(place, 64)
    of_group = group * 16 + lane
    scale = float(weight.scales[block, of_group])
    if weight.kind is QuantKind.INT8:
        quad, i = divmod(place, 4)
        return scale * (int(weight.codes[block, (quad * 16 + lane) * 4 + i]) - 128)
    half, in_half = divmod(within, 32)
    quad, i = divmod(in_half, 4)
    byte = int(weight.codes[block, ((group * 8 + quad) * 16 + lane) * 4 + i])
    assert weight.mins is not None
    return scale * (byte // 16 if half else byte % 16) + float(weight.mins[block, of_group])


def fp8(bits: int) -> float:
    """A sign, an exponent of 4 bits from -7 on, a fraction of 3 with an implied 1 but in the least exponent's."""
    exponent, fraction = bits >> 3 & 15, bits & 7
    magnitude = (8 + fraction) * 2.0 ** (exponent - 10) if exponent else fraction * 2.0**-9
    return -magnitude if bits & 128 else magnitude


@pytest.mark.parametrize("kind", QuantKind)
def test_every_weight_is_where_the_description_says(kind: QuantKind) -> None:
    """To one rounding of the sum to float32; the products of a code and a float16 are exact there."""
    weight = random_quantized(19, 128, kind)
    weight.scales.copy_(torch.rand(weight.scales.shape) + 0.5)
    if weight.mins is not None:
        weight.mins.copy_(torch.randn(weight.mins.shape))
    expected = torch.tensor([[decode(weight, o, i) for i in range(128)] for o in range(19)], dtype=torch.float64)
    torch.testing.assert_close(weight.dequantize().double(), expected, rtol=2**-23, atol=2**-22)


@pytest.mark.parametrize(("kind", "bits"), [(QuantKind.INT8, 8.25), (QuantKind.INT4, 4.5)])
def test_size_of_integers(kind: QuantKind, bits: float) -> None:
    assert kind.bits_per_weight == bits
    assert empty_quantized(48, 192, kind, "meta").nbytes * 8 == 48 * 192 * bits
    assert empty_quantized(33, 192, kind).nbytes == empty_quantized(48, 192, kind).nbytes


def test_size_of_fp8() -> None:
    assert QuantKind.FP8.bits_per_weight == 8
    assert empty_quantized(33, 192, QuantKind.FP8, "meta").nbytes == 33 * 192 + 33 * 4


@pytest.mark.parametrize("kind", QuantKind)
def test_a_random_matrix_has_the_spread_that_was_asked_for(kind: QuantKind) -> None:
    """262,144 even draws: the deviation of their spread is a few thousandths."""
    weights = random_quantized(512, 512, kind, std=0.05, generator=torch.Generator().manual_seed(1)).dequantize()
    assert weights.std().item() == pytest.approx(0.05, rel=0.01)
    assert abs(weights.mean().item()) < 0.05 * 0.01


def test_parts_that_do_not_fit_are_refused() -> None:
    made = empty_quantized(16, 64, QuantKind.INT8)
    with pytest.raises(ValueError, match=r"the codes are torch.uint8 \[1, 1024\], not torch.uint8 \[1, 512\]"):
        QuantizedWeight(made.codes, made.scales, made.scales, 16, 64, QuantKind.INT4)
    with pytest.raises(ValueError, match="the mins are None"):
        QuantizedWeight(made.codes[:, :512], made.scales, None, 16, 64, QuantKind.INT4)
    with pytest.raises(ValueError, match="96 inputs do not divide into groups of 64"):
        empty_quantized(16, 96, QuantKind.INT8)
