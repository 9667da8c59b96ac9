"""What quantizing loses, and that it depends on nothing but the weights."""

import math
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mixtralkit.ops import quantize as quantize_file
from mixtralkit.ops.quantize import quantize, quantize_rows
from mixtralkit.ops.quantized_weight import QuantKind

INTEGERS = (QuantKind.INT8, QuantKind.INT4)


def relative_error(found: torch.Tensor, weights: torch.Tensor) -> float:
    return float((found.double() - weights.double()).norm() / weights.double().norm())


def span_to_codes(weights: torch.Tensor) -> torch.Tensor:
    """Plain rounding to 16 steps from the least to the largest weight of each group of 64, in float64."""
    groups = weights.double().unflatten(1, (-1, 64))
    least, most = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    step = (most - least) / 15
    rounded: torch.Tensor = ((groups - least) / step).round() * step + least
    return rounded.flatten(1)


def test_int8_is_off_by_half_a_step_at_most() -> None:
    """A step is 1/127 of a group's largest weight; float16 moves it by 2^-11, and so code 127 by 1/16 of a step."""
    weights = torch.randn(40, 192)
    off = (quantize(weights, QuantKind.INT8).dequantize() - weights).abs().unflatten(1, (-1, 64))
    steps = weights.abs().unflatten(1, (-1, 64)).amax(-1, keepdim=True) / 127
    assert (off <= steps * (0.5 + 0.07)).all()


@pytest.mark.parametrize("draw", [torch.randn, torch.rand])
def test_int4_is_better_than_plain_rounding(draw: type[torch.Tensor]) -> None:
    """By 6 % where there are tails to cut off; never worse. For normal weights an exhaustive search finds 0.0807."""
    weights = draw(256, 512)
    error, plain = (
        relative_error(found, weights)
        for found in (quantize(weights, QuantKind.INT4).dequantize(), span_to_codes(weights))
    )
    assert error < plain * 1.0005  # float16 scales cost a little of what the search gains
    if draw is torch.randn:
        assert error < 0.0817
        assert error < 0.94 * plain


@pytest.mark.parametrize("kind", QuantKind)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_weights_dtype_makes_no_difference(kind: QuantKind, dtype: torch.dtype) -> None:
    weights = torch.randn(16, 128).to(dtype)
    narrow, wide = quantize(weights, kind), quantize(weights.float(), kind)
    assert all(torch.equal(narrow.parts[name], part) for name, part in wide.parts.items())


@pytest.mark.parametrize("kind", QuantKind)
def test_neither_threads_nor_company_make_a_difference(kind: QuantKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit: a file written by one machine equals quantizing on the fly on another, on any rank."""
    weights = torch.randn(16 * 90, 256)
    expected = quantize(weights, kind).parts
    monkeypatch.setattr(quantize_file, "_CHUNK", 16 * 256 * 7)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        found = quantize(weights, kind).parts
        assert all(torch.equal(found[name], part) for name, part in expected.items())
    some = quantize(weights[16 * 30 : 16 * 40], kind).parts
    whole = {name: part.unflatten(0, (90, -1))[30:40].flatten(0, 1) for name, part in expected.items()}
    assert all(torch.equal(some[name], part) for name, part in whole.items())


@pytest.mark.parametrize("kind", INTEGERS)
def test_outputs_that_fill_up_a_block_are_zero(kind: QuantKind) -> None:
    made = quantize(torch.randn(5, 64), kind)
    full = quantize(torch.zeros(16, 64), kind)
    rest = (slice(None), slice(5, None))
    assert made.dequantize().shape == (5, 64)
    assert torch.equal(made.codes_BgOG()[0][rest], full.codes_BgOG()[0][rest])
    for name in made.parts.keys() - {"codes"}:
        assert not made.parts[name][:, 5:].any()


@pytest.mark.parametrize("kind", QuantKind)
def test_odd_groups(kind: QuantKind) -> None:
    """Zeros, one weight among zeros, equal weights, and weights too small for a float16 scale, which become zeros.

    Scale and minimum are float16, so a weight is off by 2^-11 of the largest at least.
    """
    weights = torch.zeros(16, 64)
    weights[1, 7], weights[2], weights[3] = -0.75, 0.3, 1e-12 * torch.randn(64)
    off = (quantize(weights, kind).dequantize() - weights).abs().amax(1)
    assert (off[:4] <= torch.tensor([0.0, 0.75 * 2**-11, 0.3 * 2**-11, 1e-11])).all()
    assert not off[4:].any()


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf"), 1e38])
def test_a_group_that_cannot_be_quantized_is_marked_and_spoils_no_other(kind: QuantKind, wrong: float) -> None:
    weights = torch.randn(16, 128)
    sound = quantize(weights, kind).parts
    weights[3, 70] = wrong
    made = quantize(weights, kind).parts
    finite = torch.stack([made[name].isfinite() for name in made.keys() - {"codes"}]).all(0)
    assert (~finite).nonzero().tolist() == [[0, 16 + 3]]
    assert all(torch.equal(made[name][finite], sound[name][finite]) for name in made.keys() - {"codes"})


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_in_fp8_it_is_the_output_that_is_marked(wrong: float) -> None:
    weights = torch.randn(5, 128)
    sound = quantize(weights, QuantKind.FP8)
    weights[3, 70] = wrong
    made = quantize(weights, QuantKind.FP8)
    others = torch.tensor([0, 1, 2, 4])
    assert made.scales.isfinite().tolist() == [True, True, True, False, True]
    assert torch.equal(made.scales[others], sound.scales[others])
    assert torch.equal(made.codes.float()[others], sound.codes.float()[others])


def test_fp8_codes_are_the_nearest() -> None:
    """The largest weight becomes 448. Of all 253 numbers none is nearer than the code that was chosen, in float64 but
    for half a unit in the last place of float32, in which weights are divided by their scale.
    """
    weights = torch.randn(40, 192)
    made = quantize(weights, QuantKind.FP8)
    numbers = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).double()
    numbers = numbers[numbers.isfinite()]
    scaled = weights.double() / made.scales.double()[:, None]
    nearest = (scaled[..., None] - numbers).abs().amin(-1)
    assert ((scaled - made.codes.double()).abs() <= nearest + scaled.abs() * 2.0**-24).all()
    assert (made.codes.double().abs().amax(1) == 448).all()


def test_rows_are_rounded_half_to_even_as_numpy_does() -> None:
    x = torch.randn(6, 192)
    x[0, :64] = torch.arange(64) / 2 - 15.75  # 127 steps of 1/8: every other one lies in the middle
    x[0, 63] = 15.875
    q_RD, scales_Rg = quantize_rows(x)
    groups = x.numpy().reshape(6, 3, 64)
    scales = np.abs(groups).max(-1) / np.float32(127)
    expected = np.rint(groups / scales[..., None])
    assert np.array_equal(scales_Rg.numpy(), scales)
    assert np.array_equal(q_RD.numpy().reshape(6, 3, 64), expected)


def test_odd_rows() -> None:
    """Zeros; numbers so small that the scale is rounded to few bits; and those that are not finite stay visible."""
    x = torch.zeros(4, 64)
    x[1, 0], x[1, 1] = 3e-43, -1.4e-45
    x[2, 5], x[3, 5] = float("nan"), float("inf")
    q_RD, scales_Rg = quantize_rows(x)
    assert not q_RD[0].any()
    assert scales_Rg[0] == 0
    assert q_RD.abs().max() <= 127
    assert scales_Rg[2:].isnan().all()
    assert quantize_rows(x[:0])[0].shape == (0, 64)


# Each is rounded in one way only, on any device, or does not round at all. Left out are, with reason, sums and
# products over a dimension, whose order is a device's own, and what may be fused into one rounding (add with alpha,
# addcmul); division has a check of its own.
MOVES = "detach empty new_full scalar_tensor zeros_like view _unsafe_view permute unsqueeze slice select split"
EXACT = (
    f"{MOVES} empty_strided clone copy_ _to_copy constant_pad_nd abs neg add add_ sub sub_ mul mul_ reciprocal round_ \
clamp_ nan_to_num_ amax amin eq ne gt where".split()
)


class ExactOperations(TorchDispatchMode):
    """Lets only operations through whose results are the same bits on every device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if name == "div":
            # By a number, torch multiplies by the reciprocal on a GPU: the same for powers of two only.
            assert isinstance(args[1], torch.Tensor) or math.frexp(args[1])[0] == 0.5, f"division by {args[1]}"
        else:
            assert name in EXACT, name
            assert not {"alpha", "rounding_mode"} & (kwargs or {}).keys(), name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", QuantKind)
def test_all_devices_give_the_same_bits(kind: QuantKind) -> None:
    """Proved of each operation, since no GPU may be at hand; where one is, the next test compares."""
    weights = torch.randn(16 * 3 + 5, 128)
    expected = quantize(weights, kind).parts
    in_turn = mock.patch.object(quantize_file, "_in_threads", lambda work, items: list(map(work, items)))
    with in_turn, ExactOperations():
        found = quantize(weights, kind).parts
    assert all(torch.equal(found[name], part) for name, part in expected.items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compares a GPU with the CPU")
@pytest.mark.parametrize("kind", QuantKind)
def test_a_gpu_gives_the_bits_of_a_cpu(kind: QuantKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """In several chunks, the last of them smaller."""
    monkeypatch.setattr(quantize_file, "_GPU_CHUNK", 16 * 256 * 7)
    for scale in (1e-6, 0.02, 300.0):
        weights = (torch.randn(16 * 90 + 3, 256) * scale).bfloat16()
        found = quantize(weights.cuda(), kind).parts
        assert all(torch.equal(found[name].cpu(), part) for name, part in quantize(weights, kind).parts.items())


def test_the_guard_sees_what_differs_between_devices() -> None:
    x = torch.randn(4)
    inexact: tuple[Callable[[], torch.Tensor], ...] = (
        lambda: x / 127,
        lambda: x.sum(0),
        lambda: x.add(x, alpha=0.1),
        lambda: x.exp(),
    )
    for compute in inexact:
        with pytest.raises(AssertionError), ExactOperations():
            compute()
