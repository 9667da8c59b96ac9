"""Attention over the blocks of a cache with a running maximum and sum (FlashAttention-2, arXiv:2307.08691).

A row is a pair of a token and one of the heads that share a KV head. Rows of a program see keys and values in steps of
so many positions, always from a multiple of the step on, so that a row's bits do not depend on the rest of the batch.
Scores are in powers of two: `SCALE` has the logarithm in it. Sums are in float32.
"""

import triton
import triton.language as tl

from mixtralkit.ops.triton.dot_kernels import dot


@triton.jit
def first_step(position, WINDOW: tl.constexpr, STEP: tl.constexpr):
    """The first position that the token at `position` sees, rounded down to a multiple of `STEP`; 0 is no window."""
    first = position * 0
    if WINDOW:
        first = tl.maximum(position - (WINDOW - 1), 0) // STEP * STEP
    return first


@triton.jit
def seen_sums(
    q_RW,
    positions_R,
    table_ptr,
    keys_ptr,
    values_ptr,
    begin,
    end,
    first_position,
    SCALE: tl.constexpr,
    WINDOW: tl.constexpr,
    G: tl.constexpr,
    b: tl.constexpr,
    d: tl.constexpr,
    STEP: tl.constexpr,
):
    """The largest score, the sum of weights and that of values over what each row sees of `begin` to `end`.

    The keys and values are those of one KV head, in its place of the first block. The rows are of tokens at
    `first_position` and later; `begin` is a multiple of `STEP`.
    """
    best_R = tl.full([q_RW.shape[0]], float("-inf"), tl.float32)
    total_R = tl.zeros([q_RW.shape[0]], tl.float32)
    sum_RW = tl.zeros([q_RW.shape[0], q_RW.shape[1]], tl.float32)
    masked_from = begin
    if not WINDOW:  # then all rows see all of the steps before their own tokens
        masked_from += (tl.minimum(end, first_position + 1) - begin) // STEP * STEP
        for at in range(begin, masked_from, STEP):
            best_R, total_R, sum_RW = _step(
                *(q_RW, positions_R, table_ptr, keys_ptr, values_ptr, at, end, best_R, total_R, sum_RW),
                *(SCALE, WINDOW, G, b, d, STEP, False),
            )
    for at in range(masked_from, end, STEP):
        best_R, total_R, sum_RW = _step(
            *(q_RW, positions_R, table_ptr, keys_ptr, values_ptr, at, end, best_R, total_R, sum_RW),
            *(SCALE, WINDOW, G, b, d, STEP, True),
        )
    return best_R, total_R, sum_RW


@triton.jit
def _step(
    q_RW,
    positions_R,
    table_ptr,
    keys_ptr,
    values_ptr,
    at,
    end,
    best_R,
    total_R,
    sum_RW,
    SCALE: tl.constexpr,
    WINDOW: tl.constexpr,
    G: tl.constexpr,
    b: tl.constexpr,
    d: tl.constexpr,
    STEP: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Go on with the sums over the positions from `at` on, of which all rows see all unless `MASKED`."""
    seen_S = at + tl.arange(0, STEP)
    there_S = seen_S < end
    blocks_S = tl.load(table_ptr + seen_S // b, mask=there_S, other=0).to(tl.int64)
    columns = tl.arange(0, q_RW.shape[1])[None, :]
    places_SW = (blocks_S * (G * b * d) + seen_S % b * d)[:, None] + columns
    inside_SW = there_S[:, None] & (columns < d)
    keys_SW = tl.load(keys_ptr + places_SW, mask=inside_SW, other=0.0).to(q_RW.dtype)
    scores_RS = dot(q_RW, tl.trans(keys_SW), tl.zeros([q_RW.shape[0], STEP], tl.float32)) * SCALE
    if MASKED:
        visible_RS = there_S[None, :] & (seen_S[None, :] <= positions_R[:, None])
        if WINDOW:
            visible_RS &= seen_S[None, :] > positions_R[:, None] - WINDOW
        scores_RS = tl.where(visible_RS, scores_RS, float("-inf"))
    newest_R = tl.maximum(best_R, tl.max(scores_RS, 1))
    shift_R = tl.where(newest_R == float("-inf"), 0.0, newest_R)  # a row may have seen nothing yet
    weights_RS = tl.exp2(scores_RS - shift_R[:, None])
    faded_R = tl.exp2(best_R - shift_R)
    values_SW = tl.load(values_ptr + places_SW, mask=inside_SW, other=0.0).to(q_RW.dtype)
    sum_RW = dot(weights_RS.to(q_RW.dtype), values_SW, sum_RW * faded_R[:, None])
    return newest_R, total_R * faded_R + tl.sum(weights_RS, 1), sum_RW
