"""Tiles of a weight matrix, for the kernels that multiply with it: dense, or codes that are dequantized on the way.

A matrix is given by the addresses of its parts, a row of `Matrices.addresses`, so that matrices can lie anywhere. The
layout of the integers is that of ops/quantized_weight.py; its blocks and groups are contiguous, so codes are loaded as
they lie and put into the order of a product in registers.

Kernels are told the kind of a matrix by two constants, `weight_kind`: `DENSE` is the dtype of what lies row after row,
None for integers, and `BITS` are those of a code, 0 where nothing is quantized. fp8 has both. Where the processor does
not convert fp8 itself `DENSE` is uint8, and the bits are put into those of float16, which are numbers 2^8 times too
small; the factor goes into the scale.
"""

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl

from mixtralkit.ops.matrices import ALIGNMENT, Matrices
from mixtralkit.ops.quantized_weight import GROUP, OUTPUT_BLOCK, QUAD, QuantizedWeight, QuantKind

ALIGNED = tl.constexpr(ALIGNMENT)
GROUP_INPUTS = tl.constexpr(GROUP)
BLOCK_OUTPUTS = tl.constexpr(OUTPUT_BLOCK)
QUAD_INPUTS = tl.constexpr(QUAD)
ZERO_CODE = tl.constexpr(128)  # of int8
FP8_IN_HALF = tl.constexpr(256.0)  # how much smaller the bits of fp8 are as float16: 2^(15 - 7), from the two biases

_DENSE = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
_CONVERTS_FP8 = (8, 9)  # the first architecture that does


def weight_kind(weights: Matrices) -> dict[str, Any]:
    """`DENSE` and `BITS` of these matrices, where they are."""
    first = weights.matrices[0]
    if not isinstance(first, QuantizedWeight):
        return {"DENSE": _DENSE[first.dtype], "BITS": 0}
    is_fp8 = first.kind is QuantKind.FP8
    return {"DENSE": fp8_type(first.codes.device) if is_fp8 else None, "BITS": first.kind.bits}


@cache
def fp8_type(device: torch.device) -> tl.dtype:
    """As what the kernels read fp8 on that device."""
    is_old = device.type == "cuda" and torch.cuda.get_device_capability(device) < _CONVERTS_FP8
    return tl.uint8 if is_old else tl.float8e4nv


@triton.jit
def part_pointers(addresses_ptr, matrix, DENSE: tl.constexpr, BITS: tl.constexpr):
    """Pointers to the data, scales and mins of a matrix, row `matrix` of the addresses.

    A dense matrix has data alone, and three times the pointer to it; one in fp8 has twice the pointer to its scales.
    """
    row_ptr = addresses_ptr + matrix * 3
    if DENSE is not None:
        data_ptr = tl.multiple_of(tl.load(row_ptr).to(tl.pointer_type(DENSE)), ALIGNED)
        if BITS == 0:
            parts = (data_ptr, data_ptr, data_ptr)
        else:
            factors_ptr = tl.multiple_of(tl.load(row_ptr + 1).to(tl.pointer_type(tl.float32)), ALIGNED)
            parts = (data_ptr, factors_ptr, factors_ptr)
    else:
        codes_ptr = tl.multiple_of(tl.load(row_ptr).to(tl.pointer_type(tl.uint8)), ALIGNED)
        scales_ptr = tl.multiple_of(tl.load(row_ptr + 1).to(tl.pointer_type(tl.float16)), ALIGNED)
        mins_ptr = tl.multiple_of(tl.load(row_ptr + 2).to(tl.pointer_type(tl.float16)), ALIGNED)
        parts = (codes_ptr, scales_ptr, mins_ptr)
    return parts


@triton.jit
def weight_tile(
    parts,
    first_output,
    first_input,
    OUTPUTS,
    INPUTS: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    DENSE: tl.constexpr,
    BITS: tl.constexpr,
):
    """Weights `[BK inputs, BN outputs]` from there on; 0 beyond the matrix.

    Integers become float32, with scale and minimum; fp8 lacks its scale, see `scaled`.
    """
    if DENSE is not None:
        tile_KN = _dense_tile(parts[0], first_output, first_input, OUTPUTS, INPUTS, BN, BK)
        if BITS == 8:
            tile_KN = _float16_of_fp8(tile_KN)
    elif BITS == 8:
        tile_KN = _int8_tile(parts, first_output, first_input, OUTPUTS, INPUTS, BN, BK)
    else:
        tile_KN = _int4_tile(parts, first_output, first_input, OUTPUTS, INPUTS, BN, BK)
    return tile_KN


@triton.jit
def scaled(sum_MN, parts, first_output, OUTPUTS, BN: tl.constexpr, DENSE: tl.constexpr, BITS: tl.constexpr):
    """What the finished sums of products with tiles of `weight_tile` become: those of fp8 get their outputs' scales."""
    if DENSE is not None and BITS == 8:
        outputs_N = first_output + tl.arange(0, BN)
        scales_N = tl.load(parts[1] + outputs_N, mask=outputs_N < OUTPUTS, other=0.0)
        if parts[0].dtype.element_ty == tl.uint8:
            scales_N *= FP8_IN_HALF
        sum_MN *= scales_N[None, :]
    return sum_MN


@triton.jit
def _float16_of_fp8(codes):
    """Codes as float16; of bits `FP8_IN_HALF` times too small: sign, a 0, exponent, fraction, and zeros.

    By way of float16 also where bfloat16 is wanted: of fp8 straight to that the compiler makes a slower conversion.
    """
    if codes.dtype == tl.uint8:
        shifted = codes.to(tl.int8, bitcast=True).to(tl.int16) << 7
        numbers = (shifted & -0x4001).to(tl.float16, bitcast=True)
    else:
        numbers = codes.to(tl.float16)
    return numbers


@triton.jit
def _dense_tile(data_ptr, first_output, first_input, OUTPUTS, INPUTS, BN: tl.constexpr, BK: tl.constexpr):
    inputs_K = first_input + tl.arange(0, BK)
    outputs_N = first_output + tl.arange(0, BN)
    mask = (outputs_N < OUTPUTS)[None, :] & (inputs_K < INPUTS)[:, None]
    return tl.load(data_ptr + outputs_N[None, :] * INPUTS + inputs_K[:, None], mask=mask, other=0.0)


@triton.jit
def _int8_tile(parts, first_output, first_input, OUTPUTS, INPUTS, BN: tl.constexpr, BK: tl.constexpr):
    """Codes lie as `[blocks, quads, outputs, quad]`."""
    GROUPS: tl.constexpr = BK // GROUP_INPUTS
    QUADS: tl.constexpr = GROUP_INPUTS // QUAD_INPUTS
    codes = _codes(parts[0], first_output, first_input, OUTPUTS, INPUTS, BN, BK, 1)
    codes = tl.reshape(codes, (BN // BLOCK_OUTPUTS, GROUPS, QUADS, BLOCK_OUTPUTS, QUAD_INPUTS))
    scales = _group_values(parts[1], first_output, first_input, OUTPUTS, INPUTS, BN, GROUPS)
    mins = scales * -ZERO_CODE  # a power of two: this is as exact as scale * (code - 128), and one instruction
    weights = codes.to(tl.float32) * scales[:, :, None, :, None] + mins[:, :, None, :, None]
    return tl.reshape(tl.permute(weights, (1, 2, 4, 0, 3)), (BK, BN))


@triton.jit
def _int4_tile(parts, first_output, first_input, OUTPUTS, INPUTS, BN: tl.constexpr, BK: tl.constexpr):
    """Codes lie as `[blocks, groups, quads of half a group, outputs, quad]`, two in a byte, the first half low."""
    GROUPS: tl.constexpr = BK // GROUP_INPUTS
    QUADS: tl.constexpr = GROUP_INPUTS // QUAD_INPUTS // 2
    pairs = _codes(parts[0], first_output, first_input, OUTPUTS, INPUTS, BN, BK, 2)
    codes = tl.join(pairs & 15, pairs >> 4)
    codes = tl.reshape(codes, (BN // BLOCK_OUTPUTS, GROUPS, QUADS, BLOCK_OUTPUTS, QUAD_INPUTS, 2))
    scales = _group_values(parts[1], first_output, first_input, OUTPUTS, INPUTS, BN, GROUPS)
    mins = _group_values(parts[2], first_output, first_input, OUTPUTS, INPUTS, BN, GROUPS)
    weights = codes.to(tl.float32) * scales[:, :, None, :, None, None] + mins[:, :, None, :, None, None]
    return tl.reshape(tl.permute(weights, (1, 5, 2, 4, 0, 3)), (BK, BN))


@triton.jit
def _codes(
    codes_ptr, first_output, first_input, OUTPUTS, INPUTS, BN: tl.constexpr, BK: tl.constexpr, IN_A_BYTE: tl.constexpr
):
    """The bytes of the tile, a row for each block of outputs, in the order in which they lie."""
    BYTES: tl.constexpr = BK * BLOCK_OUTPUTS // IN_A_BYTE
    bytes_in_block = INPUTS * BLOCK_OUTPUTS // IN_A_BYTE
    blocks = first_output // BLOCK_OUTPUTS + tl.arange(0, BN // BLOCK_OUTPUTS)
    offsets = first_input * BLOCK_OUTPUTS // IN_A_BYTE + tl.arange(0, BYTES)
    mask = (blocks * BLOCK_OUTPUTS < OUTPUTS)[:, None] & (offsets < bytes_in_block)[None, :]
    return tl.load(codes_ptr + blocks[:, None] * bytes_in_block + offsets[None, :], mask=mask, other=0)


@triton.jit
def _group_values(values_ptr, first_output, first_input, OUTPUTS, INPUTS, BN: tl.constexpr, GROUPS: tl.constexpr):
    """Scales or mins of the tile, float32 `[blocks, groups, outputs of a block]`."""
    values_in_block = INPUTS // GROUP_INPUTS * BLOCK_OUTPUTS
    blocks = first_output // BLOCK_OUTPUTS + tl.arange(0, BN // BLOCK_OUTPUTS)
    offsets = first_input // GROUP_INPUTS * BLOCK_OUTPUTS + tl.arange(0, GROUPS * BLOCK_OUTPUTS)
    mask = (blocks * BLOCK_OUTPUTS < OUTPUTS)[:, None] & (offsets < values_in_block)[None, :]
    values = tl.load(values_ptr + blocks[:, None] * values_in_block + offsets[None, :], mask=mask, other=0.0)
    return tl.reshape(values.to(tl.float32), (BN // BLOCK_OUTPUTS, GROUPS, BLOCK_OUTPUTS))
