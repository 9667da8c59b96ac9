"""The attention of a batch over the KV cache of one layer: rotation, cache write and attention in one."""

import torch

from mixtralkit.ops.causal_attention import attention
from mixtralkit.ops.device_segments import DeviceSegments, device_segments
from mixtralkit.ops.native import native
from mixtralkit.ops.rotary import Rotations, rotate
from mixtralkit.ops.triton_kernels import triton_takes

EVERYTHING = 2**62  # a window that is never reached


def cached_attention(
    qkv_TX: torch.Tensor,
    keys_PGbd: torch.Tensor,
    values_PGbd: torch.Tensor,
    segments_B2: torch.Tensor,
    tables_BM: torch.Tensor,
    rotations_T: Rotations,
    *,
    num_heads: int,
    sliding_window: int | None,
    on_device: DeviceSegments | None = None,
) -> torch.Tensor:
    """Attend from every token to its own request's positions up to its own; returns `[T, H * d]`.

    A row of `qkv_TX` has H queries, G keys and G values of d elements. `segments_B2` (int64, on the host) has for each
    request the position of its first token here and the number of its tokens, which follow one another; `tables_BM`
    (likewise) the blocks in which its positions are kept, in their order. Queries and keys are rotated; keys and values
    are written into the cache, P blocks `[G, b, d]`, in its dtype, all of the batch before any is read, and read back
    from there: so a request may share blocks with an earlier one that is just filling them. With the kernel, the number
    b of positions in a block (a divisor or a multiple of 64), and how a prompt is divided into calls, change not a bit.
    With a `sliding_window` of w a token sees itself and the w - 1 before it. Not differentiable.

    The kernels for GPUs read the segments and tables from `on_device`; whoever has several layers makes that once.

    Raises RuntimeError, before anything is written, for a segment whose blocks are not all in its table and the cache.
    """
    if triton_takes(qkv_TX, keys_PGbd, values_PGbd):
        from mixtralkit.ops.triton.attention_kernels import paged_attention

        on_device = on_device or device_segments(segments_B2, tables_BM, qkv_TX.device)
        return paged_attention(
            *(qkv_TX, keys_PGbd, values_PGbd, on_device, rotations_T),
            num_heads=num_heads,
            sliding_window=sliding_window,
        )
    ops = native(qkv_TX, keys_PGbd, values_PGbd)
    if ops is not None:
        found: torch.Tensor = ops.attention(
            *(qkv_TX, keys_PGbd, values_PGbd, segments_B2, tables_BM, *rotations_T),
            *(num_heads, sliding_window or EVERYTHING),
        )
        return found
    kv_heads, head_dim = keys_PGbd.shape[1], keys_PGbd.shape[3]
    segments = _checked(segments_B2, tables_BM, keys_PGbd)
    heads_TXd = qkv_TX.unflatten(1, (-1, head_dim))
    q_THd, k_TGd, v_TGd = heads_TXd.split([num_heads, kv_heads, kv_heads], dim=1)
    q_THd, k_TGd = rotate(q_THd, rotations_T), rotate(k_TGd, rotations_T)
    for cache, new_TGd in ((keys_PGbd, k_TGd), (values_PGbd, v_TGd)):
        for rows, table_M, start, end in segments:
            cache[_places(table_M, start, end, cache)] = new_TGd[rows].to(cache.dtype)
    outs = []
    for rows, table_M, _, end in segments:
        keys, values = (
            cache[_places(table_M, 0, end, cache)].transpose(0, 1).to(q_THd.dtype).contiguous()
            for cache in (keys_PGbd, values_PGbd)
        )
        outs.append(attention(q_THd[rows], keys, values, sliding_window))
    return torch.cat(outs).flatten(1) if outs else q_THd.flatten(1)


_Places = tuple[torch.Tensor, slice, torch.Tensor]


def _places(table_M: torch.Tensor, start: int, end: int, cache_PGbd: torch.Tensor) -> _Places:
    """Where in the cache the positions from `start` to `end` are kept: an index that gives `[positions, G, d]`."""
    positions, block_size = torch.arange(start, end), cache_PGbd.shape[2]
    return table_M[positions // block_size], slice(None), positions % block_size


def _checked(
    segments_B2: torch.Tensor, tables_BM: torch.Tensor, cache_PGbd: torch.Tensor
) -> list[tuple[slice, torch.Tensor, int, int]]:
    """The rows of each segment, its table, and its positions' start and end."""
    num_blocks, _, block_size, _ = cache_PGbd.shape
    segments, row = [], 0
    for (start, length), table_M in zip(segments_B2.tolist(), tables_BM, strict=True):
        end, blocks = start + length, table_M[: -(-(start + length) // block_size)].tolist()
        if len(blocks) * block_size < end or not all(0 <= block < num_blocks for block in blocks):
            raise RuntimeError(f"blocks {blocks} of {num_blocks} do not hold {end} positions, {block_size} in each")
        segments.append((slice(row, row + length), table_M, start, end))
        row += length
    return segments
