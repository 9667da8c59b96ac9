"""How large the tiles of attention are: data, by the kind of segment, the dtype and the GPU.

Chosen by arithmetic for heads of 128 elements, to be confirmed on hardware: not measured on a GPU yet. A single token
is bound by reading keys and values: each step has 32 KB of them on the way, several programs share a multiprocessor,
and splits make enough programs of one request. A prompt is bound by the tensor cores: from Hopper on, 128 rows (32
tokens of 4 heads) use the keys and values of a step together, as the L2 cache is too slow for fewer; before, the
registers suffice for 64. In bfloat16, with Triton 3.6, ptxas spills none; with 3.9 the prompts of sm_80 have 64
bytes of stack, and sm_90 has not been looked at.
"""

from typing import NamedTuple

import torch

SPLIT = 256  # positions of a request that one program goes through for a single token; a multiple of all steps


class AttentionTile(NamedTuple):
    """Rows (pairs of a token and a head) of a program, positions it looks at in a step; and the launch."""

    rows: int
    step: int
    warps: int
    stages: int


_TOKEN = AttentionTile(16, 64, 4, 3)
_PROMPT = AttentionTile(64, 64, 4, 3)
_PROMPT_HOPPER = AttentionTile(128, 64, 8, 3)
# Exact float32 products do not go to the tensor cores.
_TOKEN_FLOAT32 = AttentionTile(16, 16, 4, 2)
_PROMPT_FLOAT32 = AttentionTile(32, 16, 4, 2)


def token_tile(heads_together: int, dtype: torch.dtype) -> AttentionTile:
    """For segments of one token; so many heads share a KV head."""
    return _with_room(_TOKEN_FLOAT32 if dtype == torch.float32 else _TOKEN, heads_together)


def prompt_tile(heads_together: int, dtype: torch.dtype, hopper: bool) -> AttentionTile:
    """For segments of several tokens; `hopper` is whether the GPU is one, or newer."""
    halves = _PROMPT_HOPPER if hopper else _PROMPT
    return _with_room(_PROMPT_FLOAT32 if dtype == torch.float32 else halves, heads_together)


def _with_room(tile: AttentionTile, heads: int) -> AttentionTile:
    """The tile with rows for all heads of at least one token."""
    return tile._replace(rows=max(tile.rows, 1 << (heads - 1).bit_length()))
