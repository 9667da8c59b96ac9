"""Attention of a batch over the blocks of a cache: rotation and cache write, prompts, and single tokens in splits.

Single tokens, bound by reading keys and values, are divided into programs over so many positions, whose results a
further kernel joins (flash-decoding); segments of several tokens into tiles of tokens. All heads that share a KV head
go together. Every launch is as large as the host knows that it has to be at most, and programs without work return at
once: nothing waits for the device, and a step can be captured in a CUDA graph.
"""

import math
from typing import Any

import torch
import triton

from mixtralkit.ops.device_segments import DeviceSegments
from mixtralkit.ops.rotary import Rotations
from mixtralkit.ops.triton.attention_tiles import AttentionTile, prompt_tile, split_positions, token_tile
from mixtralkit.ops.triton.prompt_kernels import prompt_kernel
from mixtralkit.ops.triton.rotary_kernels import rotate_and_write
from mixtralkit.ops.triton.tile_table import architecture
from mixtralkit.ops.triton.token_kernels import join_splits_kernel, token_kernel

_SMALLEST_DOT = 16  # elements that Triton multiplies together


def paged_attention(
    qkv_TX: torch.Tensor,
    keys_PGbd: torch.Tensor,
    values_PGbd: torch.Tensor,
    segments: DeviceSegments,
    rotations_T: Rotations,
    *,
    num_heads: int,
    sliding_window: int | None,
) -> torch.Tensor:
    """As ops/cached_attention has it, `[T, H * d]` in the dtype of `qkv_TX`; float32, bfloat16 or float16.

    A token's result depends on its own request only, and on whether the segment is of one token or of several.
    """
    segments.check(keys_PGbd.shape[0], keys_PGbd.shape[2])
    q_THd = rotate_and_write(qkv_TX.contiguous(), keys_PGbd, values_PGbd, segments, rotations_T, num_heads)
    out_THd = torch.empty_like(q_THd)
    tensors = (q_THd, keys_PGbd, values_PGbd)
    if segments.longest_prompt:
        _prompts(*tensors, segments, out_THd, sliding_window or 0)
    if segments.longest_context:
        _tokens(*tensors, segments, out_THd, sliding_window or 0)
    return out_THd.flatten(1)


def _prompts(
    q_THd: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, segments: DeviceSegments, out: torch.Tensor, w: int
) -> None:
    requests_BX, together = segments.requests_BX, q_THd.shape[1] // keys.shape[1]
    tile = prompt_tile(together, q_THd.dtype, architecture(q_THd.device))
    grid = (triton.cdiv(segments.longest_prompt, tile.rows // together), keys.shape[1], len(requests_BX))
    stride = requests_BX.stride(0)
    prompt_kernel[grid](q_THd, keys, values, requests_BX, out, stride, **_constants(q_THd, keys, tile, w))


def _tokens(
    q_THd: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, segments: DeviceSegments, out: torch.Tensor, w: int
) -> None:
    requests_BX, (_, heads, head_dim) = segments.requests_BX, q_THd.shape
    arch = architecture(q_THd.device)
    tile, split = token_tile(heads // keys.shape[1], q_THd.dtype, arch), split_positions(arch)
    requests, stride, splits = len(requests_BX), requests_BX.stride(0), triton.cdiv(segments.longest_context, split)
    sums_BHSd = q_THd.new_empty(requests, heads, splits, head_dim, dtype=torch.float32)
    totals_BHS2 = q_THd.new_empty(requests, heads, splits, 2, dtype=torch.float32)
    token_kernel[splits, keys.shape[1], requests](
        q_THd,
        keys,
        values,
        requests_BX,
        sums_BHSd,
        totals_BHS2,
        stride,
        **_constants(q_THd, keys, tile, w),
        SPLIT=split,
    )
    join_splits_kernel[requests, heads](
        *(sums_BHSd, totals_BHS2, requests_BX, out, stride, splits),
        *(w, heads, head_dim, triton.next_power_of_2(head_dim), tile.step, split),
    )


def _constants(q_THd: torch.Tensor, keys_PGbd: torch.Tensor, tile: AttentionTile, window: int) -> dict[str, Any]:
    """What both kernels are compiled for."""
    _, kv_heads, block_size, head_dim = keys_PGbd.shape
    return {
        "SCALE": head_dim**-0.5 * math.log2(math.e),
        "WINDOW": window,
        "H": q_THd.shape[1],
        "G": kv_heads,
        "b": block_size,
        "d": head_dim,
        "WIDTH": max(triton.next_power_of_2(head_dim), _SMALLEST_DOT),
        "ROWS": tile.rows,
        "STEP": tile.step,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }
