"""Attention of the segments of several tokens."""

import triton
import triton.language as tl

from mixtralkit.ops.triton.flash_kernels import first_step, seen_sums
from mixtralkit.ops.triton.request_kernels import BLOCKS, LENGTH, ROW, START


@triton.jit(do_not_specialize=["stride"])
def prompt_kernel(
    q_ptr,
    keys_ptr,
    values_ptr,
    requests_ptr,
    out_ptr,
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
):
    """A tile of tokens of the request `program_id(2)`, unless it has only one; the heads of KV head `program_id(1)`."""
    request_ptr, group = requests_ptr + tl.program_id(2).to(tl.int64) * stride, tl.program_id(1)
    start, length = tl.load(request_ptr + START), tl.load(request_ptr + LENGTH)
    together: tl.constexpr = H // G
    tokens: tl.constexpr = ROWS // together
    # The last tokens see most: they come first, so that no long program is left over for the end.
    first_token = (tl.num_programs(0) - 1 - tl.program_id(0)) * tokens
    if (length < 2) | (first_token >= length):
        return
    rows_R, columns = tl.arange(0, ROWS), tl.arange(0, WIDTH)[None, :]
    tokens_R = first_token + rows_R // together
    used_RW = ((rows_R < tokens * together) & (tokens_R < length))[:, None] & (columns < d)
    tokens_R = tl.minimum(tokens_R, length - 1)
    heads_R = group * together + rows_R % together
    places_RW = ((tl.load(request_ptr + ROW) + tokens_R).to(tl.int64) * H + heads_R)[:, None] * d + columns
    first_position = start + first_token
    _, total_R, sum_RW = seen_sums(
        tl.load(q_ptr + places_RW, mask=used_RW, other=0.0),
        *(start + tokens_R, request_ptr + BLOCKS, keys_ptr + group * (b * d), values_ptr + group * (b * d)),
        *(first_step(first_position, WINDOW, STEP), start + tl.minimum(first_token + tokens, length), first_position),
        *(SCALE, WINDOW, G, b, d, STEP),
    )
    tl.store(out_ptr + places_RW, (sum_RW / total_R[:, None]).to(out_ptr.dtype.element_ty), mask=used_RW)
