"""Tiles of a weight matrix, for the kernels that multiply with it: dense, or integers that are dequantized on the way.

A matrix is given by the addresses of its parts, a row of `Matrices.addresses`, so that matrices can lie anywhere. The
layout of the integers is that of ops/quantized_weight.py; its blocks and groups are contiguous, so codes are loaded as
they lie and put into the order of a product in registers.
"""

import triton
import triton.language as tl

from mixtralkit.ops.matrices import ALIGNMENT
from mixtralkit.ops.quantized_weight import GROUP, OUTPUT_BLOCK, QUAD

ALIGNED = tl.constexpr(ALIGNMENT)
GROUP_INPUTS = tl.constexpr(GROUP)
BLOCK_OUTPUTS = tl.constexpr(OUTPUT_BLOCK)
QUAD_INPUTS = tl.constexpr(QUAD)
ZERO_CODE = tl.constexpr(128)  # of int8


@triton.jit
def part_pointers(addresses_ptr, matrix, DENSE: tl.constexpr, BITS: tl.constexpr):
    """Pointers to the data, scales and mins of a matrix, row `matrix` of the addresses.

    `BITS` are those of a code, and 0 where the weights are not quantized, but of the dtype `DENSE`; such a matrix has
    data alone, and three times the pointer to it.
    """
    row_ptr = addresses_ptr + matrix * 3
    if BITS == 0:
        data_ptr = tl.multiple_of(tl.load(row_ptr).to(tl.pointer_type(DENSE)), ALIGNED)
        parts = (data_ptr, data_ptr, data_ptr)
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
    BITS: tl.constexpr,
):
    """Weights `[BK inputs, BN outputs]` from there on; 0 beyond the matrix. Quantized ones are float32."""
    if BITS == 0:
        tile_KN = _dense_tile(parts[0], first_output, first_input, OUTPUTS, INPUTS, BN, BK)
    elif BITS == 8:
        tile_KN = _int8_tile(parts, first_output, first_input, OUTPUTS, INPUTS, BN, BK)
    else:
        tile_KN = _int4_tile(parts, first_output, first_input, OUTPUTS, INPUTS, BN, BK)
    return tile_KN


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
