"""The product of rows and a quantized matrix, in plain torch: what it means, and what runs where no kernel does."""

import torch
import torch.nn.functional as F

from mixtralkit.ops.invariance import dense_linear
from mixtralkit.ops.quantize import quantize_rows
from mixtralkit.ops.quantized_weight import GROUP, OUTPUT_BLOCK, QuantizedWeight, QuantKind

_CHUNK = 1 << 20  # codes at a time that become float32, a few megabytes


def quantized_linear_reference(x_RD: torch.Tensor, weight: QuantizedWeight) -> torch.Tensor:
    """`x_RD @ weight.T`, float32 `[R, outputs]`; no gradients. With integers the rows are quantized too."""
    return _with_fp8(x_RD, weight) if weight.kind is QuantKind.FP8 else _with_integers(x_RD, weight)


def _with_fp8(x_RD: torch.Tensor, weight: QuantizedWeight) -> torch.Tensor:
    """The sums of inputs times codes in float32, each times its output's scale."""
    chunks = weight.codes.split(max(1, _CHUNK // weight.inputs))
    sums_RF = torch.cat([dense_linear(x_RD.float(), codes_FD.float()) for codes_FD in chunks], dim=1)
    return sums_RF * weight.scales


def _with_integers(x_RD: torch.Tensor, weight: QuantizedWeight) -> torch.Tensor:
    """By groups of inputs.

    Within a group both sides are integers, and their dot product is exact: in float32 too, in any order, since no sum
    reaches 2^24. Then, group after group and in float32, `y = fma(weight's scale * row's scale, dot, y)` and, in int4,
    `y = fma(minimum, row's scale * sum of the row's integers, y)`. So a row's bits depend on nothing else in the call.
    """
    q_RD, row_scales_Rg = quantize_rows(x_RD)
    q_gRG = q_RD.float().unflatten(1, (-1, GROUP)).transpose(0, 1)
    codes_BgOG = weight.codes_BgOG()
    scales_gF, mins_gF = _by_group(weight.scales), None if weight.mins is None else _by_group(weight.mins)
    y_RF = x_RD.new_zeros(x_RD.shape[0], scales_gF.shape[1], dtype=torch.float32)
    for group, q_RG in enumerate(q_gRG):
        codes_FG = codes_BgOG[:, group].flatten(0, 1).float()
        row_scales_R1 = row_scales_Rg[:, group, None]
        if mins_gF is None:
            y_RF = _fma(scales_gF[group] * row_scales_R1, F.linear(q_RG, codes_FG - 128), y_RF)
        else:
            y_RF = _fma(scales_gF[group] * row_scales_R1, F.linear(q_RG, codes_FG), y_RF)
            y_RF = _fma(mins_gF[group], row_scales_R1 * q_RG.sum(1, keepdim=True), y_RF)
    return y_RF[:, : weight.outputs]


def _by_group(values: torch.Tensor) -> torch.Tensor:
    """Scales or minima as float32 `[groups, outputs]`."""
    return values.view(values.shape[0], -1, OUTPUT_BLOCK).float().permute(1, 0, 2).flatten(1)


def _fma(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """`a * b + c` in float32 with one rounding.

    The product is exact in float64. The sum is rounded twice, to float64 and to float32, which differs from a single
    rounding about once in 2^29 times.
    """
    return (a.double() * b.double() + c.double()).float()
