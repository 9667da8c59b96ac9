"""The choice of experts on a GPU, and with it the order of the rows by expert."""

import torch
import triton
import triton.language as tl

from mixtralkit.ops.triton.sort_kernels import (
    new_order,
    new_tile_counts,
    place_pairs,
    rounded,
    rows_of_tokens,
    scatter,
    tile_tokens,
    tile_warps,
)


def topk_gate(logits_TE: torch.Tensor, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As ops/gate has it: `expert_ids_TK` (int64) and `weights_TK` (float32)."""
    ids_TK, weights_TK = _new_routing(logits_TE, top_k)
    if ids_TK.numel():
        _launch(logits_TE, ids_TK, weights_TK, None, None)
    return ids_TK, weights_TK


def sorted_gate(logits_TE: torch.Tensor, top_k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """`topk_gate`, and `pairs_N` and `counts_E` as ops/expert_sort has them for experts in the order of their ids.

    One kernel where there are few tokens, otherwise two.
    """
    ids_TK, weights_TK = _new_routing(logits_TE, top_k)
    (tokens, experts), block = logits_TE.shape, tile_tokens(*logits_TE.shape)
    pairs_N, counts_E = new_order(ids_TK, experts)
    if not ids_TK.numel():
        counts_E.zero_()
    elif tokens <= block:
        _launch(logits_TE, ids_TK, weights_TK, counts_E, pairs_N)
    else:
        tile_counts = new_tile_counts(triton.cdiv(tokens, block), counts_E)
        _launch(logits_TE, ids_TK, weights_TK, tile_counts, None)
        scatter(ids_TK, None, tile_counts, pairs_N, counts_E, block)
    return ids_TK, weights_TK, pairs_N, counts_E


def _new_routing(logits_TE: torch.Tensor, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (logits_TE.shape[0], top_k)
    return logits_TE.new_empty(shape, dtype=torch.int64), logits_TE.new_empty(shape, dtype=torch.float32)


def _launch(
    logits_TE: torch.Tensor,
    ids_TK: torch.Tensor,
    weights_TK: torch.Tensor,
    counts: torch.Tensor | None,
    pairs_N: torch.Tensor | None,
) -> None:
    (tokens, experts), top_k = logits_TE.shape, ids_TK.shape[1]
    block = tile_tokens(tokens, experts)
    gate_kernel[(triton.cdiv(tokens, block),)](
        *(logits_TE.contiguous(), ids_TK, weights_TK, counts, pairs_N, tokens),
        *(experts, top_k, block, *rounded(experts, top_k)),
        num_warps=tile_warps(block, experts),
    )


@triton.jit(do_not_specialize=["tokens"])
def gate_kernel(
    logits_ptr,
    ids_ptr,
    weights_ptr,
    counts_ptr,
    pairs_ptr,
    tokens,
    EXPERTS: tl.constexpr,
    TOP_K: tl.constexpr,
    BT: tl.constexpr,
    BE: tl.constexpr,
    BK: tl.constexpr,
):
    """Ids and weights of tile `program_id(0)` of BT tokens.

    With `counts_ptr`, `[tiles, E]`, how many rows of the tile each expert has. With `pairs_ptr`, for a single tile,
    also the sorting.
    """
    tile = tl.program_id(0)
    token = tile * BT + tl.arange(0, BT)[:, None]
    expert = tl.arange(0, BE)
    k = tl.arange(0, BK)[None, :]
    inside = (token < tokens) & (expert[None, :] < EXPERTS)
    logits = tl.load(logits_ptr + token.to(tl.int64) * EXPERTS + expert[None, :], mask=inside, other=0.0).to(tl.float32)
    ids, weights = top_softmax(logits, EXPERTS, TOP_K, BT, BE, BK)
    chosen = (token < tokens) & (k < TOP_K)
    out = token.to(tl.int64) * TOP_K + k
    tl.store(ids_ptr + out, ids.to(tl.int64), mask=chosen)
    tl.store(weights_ptr + out, weights, mask=chosen)
    if counts_ptr is not None:
        ids = tl.where(chosen, ids, BE)  # of tokens that there are not: no column
        counts_E = tl.sum(rows_of_tokens(ids, expert, TOP_K, BT, BE, BK), axis=0)
        tl.store(counts_ptr + tile * EXPERTS + expert, counts_E, mask=expert < EXPERTS)
        if pairs_ptr is not None:
            place_pairs(pairs_ptr, ids, expert, tl.cumsum(counts_E, 0) - counts_E, tile, tokens, TOP_K, BT, BE, BK)


@triton.jit
def top_softmax(
    logits, EXPERTS: tl.constexpr, TOP_K: tl.constexpr, BT: tl.constexpr, BE: tl.constexpr, BK: tl.constexpr
):
    """The `top_k` of float32 `[BT, BE]`: ids and the softmax over them, `[BT, BK]`, with -1 and 0 behind the last.

    Not-a-number counts as the largest, as torch.sort has it: ids are those of experts, whatever the logits are.
    """
    expert = tl.arange(0, BE)[None, :]
    k = tl.arange(0, BK)[None, :]
    left = tl.broadcast_to(expert < EXPERTS, [BT, BE])
    keys = tl.where(logits == logits, logits, float("inf"))
    ids = tl.full([BT, BK], -1, dtype=tl.int32)
    values = tl.full([BT, BK], float("-inf"), dtype=tl.float32)
    for place in tl.static_range(TOP_K):
        best_T = tl.max(tl.where(left, keys, float("-inf")), axis=1)
        # -inf may be the best that is left: only experts that are left can hit.
        hit = left & (keys == best_T[:, None])
        id_T = tl.min(tl.where(hit, expert, BE), axis=1)
        taken = expert == id_T[:, None]
        value_T = tl.sum(tl.where(taken, logits, 0.0), axis=1)
        ids = tl.where(k == place, id_T[:, None], ids)
        values = tl.where(k == place, value_T[:, None], values)
        left = left & (expert != id_T[:, None])
    first_T = tl.sum(tl.where(k == 0, values, 0.0), axis=1)
    powers = tl.where(k < TOP_K, tl.exp(values - first_T[:, None]), 0.0)
    return ids, powers / tl.sum(powers, axis=1)[:, None]
