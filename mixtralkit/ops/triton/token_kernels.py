"""Attention of the segments of one token: in splits of so many positions, which are joined afterwards."""

import triton
import triton.language as tl

from mixtralkit.ops.triton.flash_kernels import first_step, seen_sums
from mixtralkit.ops.triton.request_kernels import BLOCKS, LENGTH, ROW, START

_TOGETHER = tl.constexpr(16)  # splits that are joined at a time


@triton.jit(do_not_specialize=["stride"])
def token_kernel(
    q_ptr,
    keys_ptr,
    values_ptr,
    requests_ptr,
    sums_ptr,
    totals_ptr,
    stride,
    SCALE: tl.constexpr,
    WINDOW: tl.constexpr,
    H: tl.constexpr,
    G: tl.constexpr,
    b: tl.constexpr,
    d: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    STEP: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """Split `program_id(0)` of the positions that the only token of request `program_id(2)` sees, if it has but one.

    Of the heads of KV head `program_id(1)`: the sum of values into `sums_ptr`, float32 `[B, H, splits, d]`; the largest
    score and the sum of weights into `totals_ptr`, `[B, H, splits, 2]`.
    """
    split, group, request = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    request_ptr = requests_ptr + request * stride
    position, length = tl.load(request_ptr + START), tl.load(request_ptr + LENGTH)
    begin = tl.maximum(split * SPLIT, first_step(position, WINDOW, STEP))
    end = tl.minimum(split * SPLIT + SPLIT, position + 1)
    if (length != 1) | (begin >= end):
        return
    rows_R, columns = tl.arange(0, ROWS), tl.arange(0, WIDTH)[None, :]
    used_R, heads_R = rows_R < H // G, group * (H // G) + rows_R
    used_RW = used_R[:, None] & (columns < d)
    queries_RW = (tl.load(request_ptr + ROW).to(tl.int64) * H + heads_R)[:, None] * d + columns
    best_R, total_R, sum_RW = seen_sums(
        tl.load(q_ptr + queries_RW, mask=used_RW, other=0.0),
        *(position + rows_R * 0, request_ptr + BLOCKS, keys_ptr + group * (b * d), values_ptr + group * (b * d)),
        *(begin, end, position, SCALE, WINDOW, G, b, d, STEP),
    )
    places_R = (request * H + heads_R) * tl.num_programs(0) + split
    tl.store(sums_ptr + places_R[:, None] * d + columns, sum_RW, mask=used_RW)
    tl.store(totals_ptr + places_R * 2, best_R, mask=used_R)
    tl.store(totals_ptr + places_R * 2 + 1, total_R, mask=used_R)


@triton.jit(do_not_specialize=["stride", "splits"])
def join_splits_kernel(
    sums_ptr,
    totals_ptr,
    requests_ptr,
    out_ptr,
    stride,
    splits,
    WINDOW: tl.constexpr,
    H: tl.constexpr,
    d: tl.constexpr,
    WIDTH: tl.constexpr,
    STEP: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """The attention of head `program_id(1)` of the only token of request `program_id(0)`, if it has but one."""
    request, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    request_ptr = requests_ptr + request * stride
    position, length = tl.load(request_ptr + START), tl.load(request_ptr + LENGTH)
    if length != 1:
        return
    columns = tl.arange(0, WIDTH)
    best = tl.full([1], float("-inf"), tl.float32)
    total = tl.zeros([1], tl.float32)
    sum_W = tl.zeros([WIDTH], tl.float32)
    last = position // SPLIT
    for at in range(first_step(position, WINDOW, STEP) // SPLIT, last + 1, _TOGETHER):
        split_P = at + tl.arange(0, _TOGETHER)
        there_P = split_P <= last
        places_P = (request * H + head) * splits + split_P
        best_P = tl.load(totals_ptr + places_P * 2, mask=there_P, other=float("-inf"))
        total_P = tl.load(totals_ptr + places_P * 2 + 1, mask=there_P, other=0.0)
        inside_PW = there_P[:, None] & (columns < d)[None, :]
        sum_PW = tl.load(sums_ptr + places_P[:, None] * d + columns[None, :], mask=inside_PW, other=0.0)
        newest = tl.maximum(best, tl.max(best_P, 0))
        faded, weight_P = tl.exp2(best - newest), tl.exp2(best_P - newest)
        total = total * faded + tl.sum(total_P * weight_P, 0)
        sum_W = sum_W * faded + tl.sum(sum_PW * weight_P[:, None], 0)
        best = newest
    row = tl.load(request_ptr + ROW).to(tl.int64)
    out_W = (sum_W / total).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + (row * H + head) * d + columns, out_W, mask=columns < d)
