"""From floating-point numbers to those of a quantized product: weights once, activations in each call.

Every step is an operation that IEEE 754 rounds in one way only, and sums are folded in a fixed order: a matrix gets the
same codes whatever the number of threads, and on a GPU too, so that quantizing while loading equals what a file holds.
"""

import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from mixtralkit.ops.quantized_weight import GROUP, OUTPUT_BLOCK, QUAD, QuantizedWeight, QuantKind, empty_quantized

_CHUNK = 1 << 18  # weights at a time; the temporaries fit into the caches of a core or two
_GPU_CHUNK = 1 << 23  # there a chunk is some 150 launches, each of which should have something to do
# In int4, how much of a group's span is cut off below and above, and how often the best of these is refined. A search
# of 196 cuts lowers the error by another half of a hundredth (benchmarks/results).
_CUTS = (0.0, 0.03, 0.06)
_REFINEMENTS = 2
_FP8_MOST = 448.0  # the largest number of float8_e4m3fn


def quantize(weight_FD: torch.Tensor, kind: QuantKind) -> QuantizedWeight:
    """The quantized matrix that is nearest by squared error, as far as the search finds it.

    A group that holds NaN, infinity, or what is beyond the reach of float16 gets a scale or minimum that is not finite;
    in fp8 an output that holds NaN or infinity. Raises `ValueError` when D is no multiple of the group. Extra memory is
    a few megabytes a thread, on a GPU some 200.
    """
    weight_FD = weight_FD.detach()
    outputs, inputs = weight_FD.shape
    made = empty_quantized(outputs, inputs, kind, weight_FD.device)
    on_cpu, by_row = weight_FD.device.type == "cpu", kind is QuantKind.FP8
    rows = max(1, (_CHUNK if on_cpu else _GPU_CHUNK) // (inputs * OUTPUT_BLOCK)) * OUTPUT_BLOCK

    def quantize_chunk(begin: int) -> None:
        chunk_FD = weight_FD[begin : begin + rows]
        found = _quantize_fp8(chunk_FD) if by_row else _INTEGERS[kind](_by_group(chunk_FD))
        first = begin if by_row else begin // OUTPUT_BLOCK
        for name, part in made.parts.items():
            part[first : first + len(found[name])] = found[name]

    if on_cpu:
        _in_threads(quantize_chunk, range(0, outputs, rows))
    else:
        for begin in range(0, outputs, rows):
            quantize_chunk(begin)
    return made


def quantize_rows(x_RD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each group of 64 neighbours in a row as integers of -127 to 127 and a scale, max|x| / 127.

    Returns int8 `[R, D]` and float32 `[R, D/64]`; x is about their product. A group of zeros has the scale 0, one with
    NaN or infinity the scale NaN.
    """
    x_RgG = x_RD.float().unflatten(1, (-1, GROUP))
    scales_Rg1 = x_RgG.abs().amax(-1, keepdim=True) / 127
    scales_Rg1 = torch.where(scales_Rg1.isfinite(), scales_Rg1, torch.nan)
    scaled_RgG = torch.where(scales_Rg1 > 0, x_RgG / scales_Rg1, 0)
    return scaled_RgG.round().clamp(-127, 127).to(torch.int8).flatten(1), scales_Rg1.squeeze(-1)


def _in_threads(work: Callable[[int], None], items: Iterable[int]) -> None:
    """Do `work` for each item, in as many threads as torch uses, each of which runs its operations alone.

    With all threads in each small operation they would wait for one another thousands of times a second, and stand
    still where another program has one of the cores.
    """
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(work, items))
    finally:
        torch.set_num_threads(threads)  # the workers' setting is in part one of the process


def _by_group(weight_FD: torch.Tensor) -> torch.Tensor:
    """The weights as float32 `[64 inputs, blocks, groups, 16 outputs]`, filled up with zeros.

    So what is done for each group runs over contiguous memory.
    """
    padding = -weight_FD.shape[0] % OUTPUT_BLOCK
    padded_FD = F.pad(weight_FD, (0, 0, 0, padding)) if padding else weight_FD
    blocks_BOgG = padded_FD.reshape(-1, OUTPUT_BLOCK, weight_FD.shape[1] // GROUP, GROUP)
    return blocks_BOgG.permute(3, 0, 2, 1).float().contiguous()


def _quantize_fp8(weight_FD: torch.Tensor) -> dict[str, torch.Tensor]:
    """The largest magnitude of an output becomes the largest number of the codes, the others the nearest ones."""
    w_FD = weight_FD.float()
    scales_F = _divided(w_FD.abs().amax(1), _FP8_MOST)
    codes_FD = (w_FD / _divisor(scales_F)[:, None]).clamp_(-_FP8_MOST, _FP8_MOST).nan_to_num_(0)
    return {"codes": codes_FD.to(torch.float8_e4m3fn), "scales": scales_F}


def _quantize_int8(w_GBgO: torch.Tensor) -> dict[str, torch.Tensor]:
    """The largest magnitude of a group becomes 127; a search would lower the error by 7 %, less than rows bring in."""
    scales_BgO = _divided(w_GBgO.abs().amax(0), 127).half()
    codes_GBgO = (w_GBgO / _divisor(scales_BgO)).round_().clamp_(-127, 127).add_(128)
    return {"codes": _pack(codes_GBgO), "scales": scales_BgO.flatten(1)}


def _quantize_int4(w_GBgO: torch.Tensor) -> dict[str, torch.Tensor]:
    """Scale and minimum by search, then the nearest codes under what float16 makes of them."""
    mean_BgO = _fold(w_GBgO) / GROUP
    centred_GBgO = w_GBgO - mean_BgO
    best = _search(centred_GBgO)
    scales_BgO = torch.where(mean_BgO.isfinite(), best.scale_BgO, mean_BgO).half()
    mins_BgO = (mean_BgO + best.least_BgO).half()
    codes_GBgO = ((w_GBgO - mins_BgO.float()) / _divisor(scales_BgO)).round_().clamp_(0, 15)
    low_GBgO, high_GBgO = codes_GBgO.chunk(2)
    codes = _pack(low_GBgO + high_GBgO * 16)
    return {"codes": codes, "scales": scales_BgO.flatten(1), "mins": mins_BgO.flatten(1)}


_INTEGERS = {QuantKind.INT8: _quantize_int8, QuantKind.INT4: _quantize_int4}


@dataclass(frozen=True)
class _Line:
    """For each group: weights as scale * code + least, and by how much that lowers the squared error of the group."""

    gain_BgO: torch.Tensor
    scale_BgO: torch.Tensor
    least_BgO: torch.Tensor

    def or_better(self, other: "_Line") -> "_Line":
        """The better of the two for each group; NaN is never better."""
        is_better = other.gain_BgO > self.gain_BgO
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Line(*(torch.where(is_better, theirs, ours) for ours, theirs in pairs))


def _search(centred_GBgO: torch.Tensor) -> _Line:
    """The best line over all cuts of a group's span, refined by rounding and fitting in turn.

    A group of equal weights has no span: all its candidates are NaN, and its scale is 0.
    """
    least_BgO, most_BgO = centred_GBgO.amin(0), centred_GBgO.amax(0)
    span_BgO = most_BgO - least_BgO
    zero_BgO = torch.zeros_like(span_BgO)
    best = _Line(zero_BgO, zero_BgO, zero_BgO)
    for below, above in itertools.product(_CUTS, _CUTS):
        scale_BgO = span_BgO * ((1 - below - above) / 15)
        best = best.or_better(_fit(centred_GBgO, scale_BgO, least_BgO + below * span_BgO))
    for _ in range(_REFINEMENTS):
        best = best.or_better(_fit(centred_GBgO, best.scale_BgO, best.least_BgO))
    return best


def _fit(centred_GBgO: torch.Tensor, scale_BgO: torch.Tensor, least_BgO: torch.Tensor) -> _Line:
    """Round under this line, and return the line through the codes that has the least squares of errors.

    With codes q and centred weights w it is scale = cov(q, w) / var(q), and the gain is scale * cov(q, w).
    """
    inverse_BgO = 1 / scale_BgO
    q_GBgO = torch.mul(centred_GBgO, inverse_BgO).sub_(least_BgO * inverse_BgO).round_().clamp_(0, 15)
    sum_BgO, squares_BgO = _fold(q_GBgO), _fold(q_GBgO * q_GBgO)
    covariance_BgO = _fold(q_GBgO.mul_(centred_GBgO))
    fitted_BgO = covariance_BgO / (squares_BgO - sum_BgO * sum_BgO / GROUP)
    return _Line(fitted_BgO * covariance_BgO, fitted_BgO, -fitted_BgO * sum_BgO / GROUP)


def _divided(x: torch.Tensor, number: float) -> torch.Tensor:
    """`x / number`, rounded once. By a number that is no tensor, torch multiplies by its reciprocal on a GPU."""
    return x / x.new_full((), number)


def _divisor(scales: torch.Tensor) -> torch.Tensor:
    """Scales as they are stored, in float32, with 1 in place of 0: what is divided by that is far below 1."""
    stored = scales.float()
    return torch.where(stored == 0, 1, stored)


def _pack(bytes_GBgO: torch.Tensor) -> torch.Tensor:
    """Bytes in the stored order, a row a block; the first dimension goes over inputs, in quads."""
    quads: torch.Tensor = bytes_GBgO.nan_to_num_(0).to(torch.uint8).unflatten(0, (-1, QUAD))
    return quads.permute(2, 3, 0, 4, 1).reshape(quads.shape[2], -1)


def _fold(x_GBgO: torch.Tensor) -> torch.Tensor:
    """The sum over the first dimension, a power of two, in an order that does not depend on how threads divide it."""
    while (half := x_GBgO.shape[0] // 2) > 0:
        x_GBgO = x_GBgO[:half] + x_GBgO[half:]
    return x_GBgO[0]
