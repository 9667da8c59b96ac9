"""Rotation of queries and keys, and the writing of keys and values into the cache, in one kernel."""

import torch
import triton
import triton.language as tl

from mixtralkit.ops.device_segments import DeviceSegments
from mixtralkit.ops.rotary import Rotations
from mixtralkit.ops.triton.request_kernels import BLOCKS, ROW, START

_WARPS = 2  # a program has few elements, 1024 in Mixtral; not measured on a GPU yet


def rotate_and_write(
    qkv_TX: torch.Tensor,
    keys_PGbd: torch.Tensor,
    values_PGbd: torch.Tensor,
    segments: DeviceSegments,
    rotations_T: Rotations,
    num_heads: int,
) -> torch.Tensor:
    """Queries `[T, H, d]` out of `qkv_TX`, rotated, in its dtype; keys, rotated too, and values go into the cache.

    ops/cached_attention has the meaning of all of it, ops/rotary that of a rotation: float32, then rounded.
    """
    _, kv_heads, block_size, head_dim = keys_PGbd.shape
    tokens, together = qkv_TX.shape[0], num_heads // kv_heads
    q_THd = qkv_TX.new_empty(tokens, num_heads, head_dim)
    if tokens:
        rotate_and_write_kernel[(tokens, kv_heads)](
            *(qkv_TX, q_THd, keys_PGbd, values_PGbd, *rotations_T),
            *(segments.requests_T, segments.requests_BX, segments.requests_BX.stride(0)),
            *(num_heads, kv_heads, block_size, head_dim),
            *(triton.next_power_of_2(together + 2), triton.next_power_of_2(head_dim)),
            num_warps=_WARPS,
        )
    return q_THd


@triton.jit(do_not_specialize=["stride"])
def rotate_and_write_kernel(
    qkv_ptr,
    q_ptr,
    keys_ptr,
    values_ptr,
    cos_ptr,
    sin_ptr,
    requests_of_rows_ptr,
    requests_ptr,
    stride,
    H: tl.constexpr,
    G: tl.constexpr,
    b: tl.constexpr,
    d: tl.constexpr,
    PARTS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Row `program_id(0)`: the KV head `program_id(1)` and the queries that share it, `WIDTH >= d` elements of each."""
    row, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    request_ptr = requests_ptr + tl.load(requests_of_rows_ptr + row).to(tl.int64) * stride
    position = tl.load(request_ptr + START) + (row - tl.load(request_ptr + ROW))
    block = tl.load(request_ptr + BLOCKS + position // b).to(tl.int64)

    # The parts are the queries, then the key, then the value.
    part, column = tl.arange(0, PARTS)[:, None], tl.arange(0, WIDTH)[None, :]
    queries: tl.constexpr = H // G
    head = tl.where(part < queries, group * queries + part, H + (part - queries) * G + group)
    inside = (part < queries + 2) & (column < d)
    x = tl.load(qkv_ptr + (row * (H + 2 * G) + head) * d + column, mask=inside, other=0.0)

    angle = tl.arange(0, WIDTH // 2)
    cos = tl.load(cos_ptr + row * (d // 2) + angle, mask=angle < d // 2, other=0.0)
    sin = tl.load(sin_ptr + row * (d // 2) + angle, mask=angle < d // 2, other=0.0)
    even, odd = tl.split(tl.reshape(x.to(tl.float32), (PARTS, WIDTH // 2, 2)))
    cos, sin = cos[None, :], sin[None, :]
    rotated = tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), (PARTS, WIDTH))
    x = tl.where(part == queries + 1, x, rotated.to(x.dtype))

    place = ((block * G + group) * b + position % b) * d + column + 0 * part
    tl.store(q_ptr + (row * H + head) * d + column, x, mask=inside & (part < queries))
    tl.store(keys_ptr + place, x.to(keys_ptr.dtype.element_ty), mask=inside & (part == queries))
    tl.store(values_ptr + place, x.to(values_ptr.dtype.element_ty), mask=inside & (part == queries + 1))
