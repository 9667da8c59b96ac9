"""The SwiGLU MLPs of several experts over the tokens that chose them: two kernels, whatever the counts are.

The counts stay on the device. A launch has as many programs as the worst spread of the rows needs; each finds its
expert by the counts, and those that are left over return at once. So nothing is waited for, and a launch can be
captured in a CUDA graph. Sums are in float32; hidden rows have the dtype of the activations, and so do dequantized
weights (the activations themselves are not quantized, as they are on the CPU).
"""

import torch
import triton
import triton.language as tl

from mixtralkit.ops.matrices import Matrices
from mixtralkit.ops.triton.dot_kernels import dot
from mixtralkit.ops.triton.expert_tiles import expert_tiles, most_tiles
from mixtralkit.ops.triton.product_tiles import Tile
from mixtralkit.ops.triton.tile_table import architecture
from mixtralkit.ops.triton.weight_tile_kernels import part_pointers, scaled, weight_kind, weight_tile

# How many tiles of rows go through the outputs side by side, and so find one another's weights in the L2 cache.
_TILES_TOGETHER = tl.constexpr(8)


def grouped_swiglu(
    x_TD: torch.Tensor, pairs_N: torch.Tensor | None, counts_E: torch.Tensor, top_k: int, weights: Matrices
) -> torch.Tensor:
    """Each expert over its tokens: `(silu(x w1.T) * (x w3.T)) w2.T`, `[N, D]` in the dtype of `x_TD`.

    `pairs_N` are the flat (token, k) pairs sorted by expert, `counts_E` (integers on the device) how many each expert
    has, and `weights` the w1, w2, w3 of each expert after the other, which have `addresses`. Row n of the result is of
    the pair n, which is token n // top_k. Without `pairs_N`, and with a `top_k` of 1, the rows of `x_TD` themselves
    are sorted by expert, and the result is in their order. No gradients.
    """
    rows, dim, hidden_dim = x_TD.shape[0] * top_k, x_TD.shape[1], weights.outputs[0]
    result_ND = x_TD.new_empty(rows, dim)
    if rows == 0:
        return result_ND
    hidden_NF, experts, kind = x_TD.new_empty(rows, hidden_dim), counts_E.numel(), weight_kind(weights)
    tiles = expert_tiles(rows, experts, x_TD.dtype, weights.quantization, architecture(x_TD.device))
    inputs = (pairs_N, counts_E.contiguous(), weights.addresses)
    shape = {"EXPERTS": experts, "EXPERTS_UP": max(16, triton.next_power_of_2(experts)), "D": dim, "F": hidden_dim}
    programs = _programs(tiles.up, rows, experts, hidden_dim)
    up_kernel[programs](x_TD.contiguous(), *inputs, hidden_NF, **shape, **kind, **_options(tiles.up), TOP_K=top_k)
    programs = _programs(tiles.down, rows, experts, dim)
    down_kernel[programs](hidden_NF, *inputs, result_ND, **shape, **kind, **_options(tiles.down))
    return result_ND


def _programs(tile: Tile, rows: int, experts: int, outputs: int) -> tuple[int]:
    return (most_tiles(rows, experts, tile.rows) * triton.cdiv(outputs, tile.outputs),)


def _options(tile: Tile) -> dict[str, int]:
    sizes = {"BM": tile.rows, "BN": tile.outputs, "BK": tile.inputs}
    return {**sizes, "num_warps": tile.warps, "num_stages": tile.stages}


@triton.jit
def up_kernel(
    x_ptr,
    pairs_ptr,
    counts_ptr,
    addresses_ptr,
    hidden_ptr,
    EXPERTS: tl.constexpr,
    EXPERTS_UP: tl.constexpr,
    D: tl.constexpr,
    F: tl.constexpr,
    DENSE: tl.constexpr,
    BITS: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    TOP_K: tl.constexpr,
):
    """`silu(x w1.T) * (x w3.T)` into `hidden_ptr`, rows sorted by expert."""
    expert, rows_M, in_rows_M, first_output = _my_tile(counts_ptr, EXPERTS, EXPERTS_UP, F, BM, BN)
    if expert == EXPERTS:
        return
    tokens_M = rows_M if pairs_ptr is None else tl.load(pairs_ptr + rows_M, mask=in_rows_M, other=0) // TOP_K
    w1 = part_pointers(addresses_ptr, expert * 3, DENSE, BITS)
    w3 = part_pointers(addresses_ptr, expert * 3 + 2, DENSE, BITS)
    gate_MN = tl.zeros((BM, BN), dtype=tl.float32)
    up_MN = tl.zeros((BM, BN), dtype=tl.float32)
    for first_input in range(0, D, BK):
        x_MK = _rows_tile(x_ptr, tokens_M, in_rows_M, first_input, D, BK)
        w1_KN = weight_tile(w1, first_output, first_input, F, D, BN, BK, DENSE, BITS).to(x_MK.dtype)
        gate_MN = dot(x_MK, w1_KN, gate_MN)
        w3_KN = weight_tile(w3, first_output, first_input, F, D, BN, BK, DENSE, BITS).to(x_MK.dtype)
        up_MN = dot(x_MK, w3_KN, up_MN)
    gate_MN = scaled(gate_MN, w1, first_output, F, BN, DENSE, BITS)
    up_MN = scaled(up_MN, w3, first_output, F, BN, DENSE, BITS)
    _store_tile(hidden_ptr, rows_M, in_rows_M, gate_MN * tl.sigmoid(gate_MN) * up_MN, first_output, F, BN)


@triton.jit
def down_kernel(
    hidden_ptr,
    pairs_ptr,
    counts_ptr,
    addresses_ptr,
    result_ptr,
    EXPERTS: tl.constexpr,
    EXPERTS_UP: tl.constexpr,
    D: tl.constexpr,
    F: tl.constexpr,
    DENSE: tl.constexpr,
    BITS: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """`hidden w2.T`, each row to the place of its pair."""
    expert, rows_M, in_rows_M, first_output = _my_tile(counts_ptr, EXPERTS, EXPERTS_UP, D, BM, BN)
    if expert == EXPERTS:
        return
    w2 = part_pointers(addresses_ptr, expert * 3 + 1, DENSE, BITS)
    result_MN = tl.zeros((BM, BN), dtype=tl.float32)
    for first_input in range(0, F, BK):
        hidden_MK = _rows_tile(hidden_ptr, rows_M, in_rows_M, first_input, F, BK)
        w2_KN = weight_tile(w2, first_output, first_input, D, F, BN, BK, DENSE, BITS).to(hidden_MK.dtype)
        result_MN = dot(hidden_MK, w2_KN, result_MN)
    result_MN = scaled(result_MN, w2, first_output, D, BN, DENSE, BITS)
    places_M = rows_M if pairs_ptr is None else tl.load(pairs_ptr + rows_M, mask=in_rows_M, other=0)
    _store_tile(result_ptr, places_M, in_rows_M, result_MN, first_output, D, BN)


@triton.jit
def _my_tile(
    counts_ptr,
    EXPERTS: tl.constexpr,
    EXPERTS_UP: tl.constexpr,
    OUTPUTS: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """The expert of this program (`EXPERTS` for none), its rows, which of them are the expert's, and its first output.

    Programs go through the outputs with some tiles of rows side by side; those without work are the last ones.
    """
    experts_E = tl.arange(0, EXPERTS_UP)
    counts_E = tl.load(counts_ptr + experts_E, mask=experts_E < EXPERTS, other=0)
    tiles_E = (counts_E + BM - 1) // BM
    tiles = tl.sum(tiles_E)
    in_band = _TILES_TOGETHER * tl.cdiv(OUTPUTS, BN)
    band_begin = tl.program_id(0) // in_band * _TILES_TOGETHER
    band = tl.maximum(tl.minimum(tiles - band_begin, _TILES_TOGETHER), 1)
    tile = band_begin + tl.program_id(0) % in_band % band
    first_output = tl.program_id(0) % in_band // band * BN

    before_E = tl.cumsum(tiles_E) <= tile
    expert = tl.minimum(tl.sum(before_E.to(tl.int32)), EXPERTS)
    begin = tl.sum(tl.where(before_E, counts_E, 0))
    end = begin + tl.sum(tl.where(experts_E == expert, counts_E, 0))
    rows_M = begin + (tile - tl.sum(tl.where(before_E, tiles_E, 0))) * BM + tl.arange(0, BM)
    return expert, rows_M, rows_M < end, first_output.to(tl.int32)


@triton.jit
def _rows_tile(x_ptr, rows_M, in_rows_M, first, WIDTH: tl.constexpr, BK: tl.constexpr):
    columns_K = first + tl.arange(0, BK)
    mask = in_rows_M[:, None] & (columns_K < WIDTH)[None, :]
    return tl.load(x_ptr + rows_M.to(tl.int64)[:, None] * WIDTH + columns_K[None, :], mask=mask, other=0.0)


@triton.jit
def _store_tile(result_ptr, rows_M, in_rows_M, values_MN, first, WIDTH: tl.constexpr, BN: tl.constexpr):
    columns_N = first + tl.arange(0, BN)
    mask = in_rows_M[:, None] & (columns_N < WIDTH)[None, :]
    pointers = result_ptr + rows_M.to(tl.int64)[:, None] * WIDTH + columns_N[None, :]
    tl.store(pointers, values_MN.to(result_ptr.dtype.element_ty), mask=mask)
