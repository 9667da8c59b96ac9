"""The attention of a batch over the KV cache of one layer: rotation, cache write and attention in one."""

import torch

from mixtralkit.ops.causal_attention import attention
from mixtralkit.ops.native import native
from mixtralkit.ops.rotary import Rotations, rotate

EVERYTHING = 2**62  # a window that is never reached


def cached_attention(
    qkv_TX: torch.Tensor,
    keys_SGCd: torch.Tensor,
    values_SGCd: torch.Tensor,
    segments_B3: torch.Tensor,
    rotations_T: Rotations,
    *,
    num_heads: int,
    sliding_window: int | None,
) -> torch.Tensor:
    """Attend from every token to its own request's positions up to its own; returns `[T, H * d]`.

    A row of `qkv_TX` has H queries, G keys and G values of d elements. `segments_B3` (int64, on the host) has each
    request's slot, the position of its first token here and the number of its tokens, which follow one another. Queries
    and keys are rotated; keys and values are written into the cache, `[slots, G, context, d]`, in its dtype, and read
    back from there. With the kernel, how a prompt is divided into calls changes not a bit. With a `sliding_window` of
    w a token sees itself and the w - 1 before it. Not differentiable.
    """
    ops = native(qkv_TX, keys_SGCd, values_SGCd)
    if ops is not None:
        found: torch.Tensor = ops.attention(
            qkv_TX, keys_SGCd, values_SGCd, segments_B3, *rotations_T, num_heads, sliding_window or EVERYTHING
        )
        return found
    kv_heads, head_dim = keys_SGCd.shape[1], keys_SGCd.shape[3]
    heads_TXd = qkv_TX.unflatten(1, (-1, head_dim))
    q_THd, k_TGd, v_TGd = heads_TXd.split([num_heads, kv_heads, kv_heads], dim=1)
    q_THd, k_TGd = rotate(q_THd, rotations_T), rotate(k_TGd, rotations_T)
    outs, row = [], 0
    for slot, start, length in segments_B3.tolist():
        rows, end = slice(row, row + length), start + length
        keys, values = keys_SGCd[slot], values_SGCd[slot]
        keys[:, start:end] = k_TGd[rows].transpose(0, 1)
        values[:, start:end] = v_TGd[rows].transpose(0, 1)
        seen_keys, seen_values = (kept[:, :end].to(q_THd.dtype) for kept in (keys, values))
        outs.append(attention(q_THd[rows], seen_keys, seen_values, sliding_window))
        row += length
    return torch.cat(outs).flatten(1) if outs else q_THd.flatten(1)
