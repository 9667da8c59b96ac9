"""Products with quantized matrices on a GPU. Those with dense ones are torch's own.

Weights are dequantized on the way to the dtype of the rows; the rows themselves are not quantized, as they are on the
CPU. Sums are in float32.
"""

from itertools import accumulate

import torch
import triton
import triton.language as tl

from mixtralkit.ops.matrices import Matrices
from mixtralkit.ops.triton.dot_kernels import dot
from mixtralkit.ops.triton.product_tiles import product_tile
from mixtralkit.ops.triton.tile_table import architecture
from mixtralkit.ops.triton.weight_tile_kernels import part_pointers, scaled, weight_kind, weight_tile

MOST_TOGETHER = 3  # matrices in one launch: queries, keys and values


def quantized_linear(x_RD: torch.Tensor, weights: Matrices, residual: torch.Tensor | None) -> torch.Tensor:
    """As `side_by_side` of ops/linear, in the dtype of `x_RD`, for quantized weights that have `addresses`."""
    x_RD, residual = x_RD.contiguous(), None if residual is None else residual.contiguous()
    result = x_RD.new_empty(x_RD.shape[0], sum(weights.outputs))
    if not result.numel():
        return result
    firsts = [0, *accumulate(weights.outputs)]
    for start in range(0, len(weights.outputs), MOST_TOGETHER):
        _launch(x_RD, weights, residual, result, start, firsts[start])
    return result


def _launch(
    x_RD: torch.Tensor,
    weights: Matrices,
    residual: torch.Tensor | None,
    result: torch.Tensor,
    matrix: int,
    column: int,
) -> None:
    """The products with some matrices from number `matrix` on, into the columns of the result from there on."""
    assert weights.addresses is not None
    tile = product_tile(architecture(x_RD.device), "linear", x_RD.shape[0], x_RD.dtype, weights.quantization)
    outputs = weights.outputs[matrix : matrix + MOST_TOGETHER]
    grid = (sum(triton.cdiv(n, tile.outputs) for n in outputs), triton.cdiv(x_RD.shape[0], tile.rows))
    linear_kernel[grid](
        *(x_RD, weights.addresses[matrix:], residual, result, x_RD.shape[0], column),
        *(*outputs, *[0] * (MOST_TOGETHER - len(outputs)), x_RD.shape[1], result.shape[1]),
        *tile[:3],
        **weight_kind(weights),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


@triton.jit(do_not_specialize=["rows"])
def linear_kernel(
    x_ptr,
    addresses_ptr,
    residual_ptr,
    result_ptr,
    rows,
    first_column,
    OUTPUTS_0: tl.constexpr,
    OUTPUTS_1: tl.constexpr,
    OUTPUTS_2: tl.constexpr,
    INPUTS: tl.constexpr,
    WIDTH: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    DENSE: tl.constexpr,
    BITS: tl.constexpr,
):
    """A tile of the products with up to three matrices; those that there are not have no outputs."""
    matrix, outputs, tile, column = _my_matrix(tl.program_id(0), OUTPUTS_0, OUTPUTS_1, OUTPUTS_2, BN)
    rows_M = tl.program_id(1) * BM + tl.arange(0, BM)
    x_M = x_ptr + rows_M.to(tl.int64) * INPUTS
    parts = part_pointers(addresses_ptr, matrix, DENSE, BITS)
    sum_MN = tl.zeros((BM, BN), dtype=tl.float32)
    for first_input in range(0, INPUTS, BK):
        inputs_K = first_input + tl.arange(0, BK)
        x_MK = tl.load(x_M[:, None] + inputs_K, mask=(rows_M < rows)[:, None] & (inputs_K < INPUTS), other=0.0)
        weights_KN = weight_tile(parts, tile * BN, first_input, outputs, INPUTS, BN, BK, DENSE, BITS)
        sum_MN = dot(x_MK, weights_KN.to(x_MK.dtype), sum_MN)
    sum_MN = scaled(sum_MN, parts, tile * BN, outputs, BN, DENSE, BITS)
    outputs_N = tile * BN + tl.arange(0, BN)
    place_MN = rows_M.to(tl.int64)[:, None] * WIDTH + (first_column + column + outputs_N)
    inside = (rows_M < rows)[:, None] & (outputs_N < outputs)
    if residual_ptr is not None:
        sum_MN += tl.load(residual_ptr + place_MN, mask=inside, other=0.0).to(tl.float32)
    tl.store(result_ptr + place_MN, sum_MN.to(result_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _my_matrix(program, OUTPUTS_0: tl.constexpr, OUTPUTS_1: tl.constexpr, OUTPUTS_2: tl.constexpr, BN: tl.constexpr):
    """Which matrix a program has a tile of, its outputs, which tile of it, and the column where its outputs begin."""
    tiles_0 = tl.cdiv(OUTPUTS_0, BN)
    tiles_1 = tl.cdiv(OUTPUTS_1, BN)
    is_1 = program >= tiles_0
    is_2 = program >= tiles_0 + tiles_1
    matrix = is_1.to(tl.int32) + is_2.to(tl.int32)
    outputs = tl.where(is_2, OUTPUTS_2, tl.where(is_1, OUTPUTS_1, OUTPUTS_0))
    tile = program - tl.where(is_1, tiles_0, 0) - tl.where(is_2, tiles_1, 0)
    column = tl.where(is_1, OUTPUTS_0, 0) + tl.where(is_2, OUTPUTS_1, 0)
    return matrix, outputs, tile, column
