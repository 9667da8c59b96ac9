"""How large the tiles of attention are, by the kind of segment, the dtype and the GPU; never by the batch.

A single token is bound by reading keys and values: each step has 32 KB of them on the way, several programs share a
multiprocessor, and splits make enough programs of one request. A prompt is bound by the tensor cores: from Hopper on,
128 rows (32 tokens of 4 heads) use the keys and values of a step together, as the L2 cache is too slow for fewer;
before, the registers suffice for 64. Exact products of float32 do not go to the tensor cores.
"""

from typing import NamedTuple

import torch

from mixtralkit.ops.triton.tile_table import chosen


class AttentionTile(NamedTuple):
    """Rows (pairs of a token and a head) of a program, positions it looks at in a step; and the launch."""

    rows: int
    step: int
    warps: int
    stages: int


def token_tile(heads_together: int, dtype: torch.dtype, arch: int) -> AttentionTile:
    """For segments of one token; so many heads share a KV head."""
    return _tile("tokens", heads_together, dtype, arch)


def prompt_tile(heads_together: int, dtype: torch.dtype, arch: int) -> AttentionTile:
    """For segments of several tokens."""
    return _tile("prompts", heads_together, dtype, arch)


def split_positions(arch: int) -> int:
    """Positions of a request that one program goes through for a single token; a multiple of all steps."""
    return chosen(arch, "split")["positions"]


def _tile(segments: str, heads: int, dtype: torch.dtype, arch: int) -> AttentionTile:
    """With rows for all heads of at least one token."""
    tile = AttentionTile(**chosen(arch, f"{segments}/{'float32' if dtype == torch.float32 else 'half'}"))
    return tile._replace(rows=max(tile.rows, 1 << (heads - 1).bit_length()))
