"""How large the tiles of the experts' products are: data, by how many rows an expert gets and what is multiplied.

Chosen by arithmetic and by what the compiler makes of them (no spills, no more shared memory than there is); not
measured on a GPU yet, and to be confirmed there. Few rows are bound by reading the weights, so what counts is how many
bytes are on the way at a time, some 40 KB a multiprocessor and more, in enough programs for all of them. Many rows are
bound by the tensor cores, so what counts is in how many products a loaded element takes part.
"""

from functools import cache
from typing import NamedTuple

import torch

from mixtralkit.ops.quantized_weight import QuantKind


class Tile(NamedTuple):
    """What one program computes, `[rows, outputs]`, going through so many inputs at a time; and its launch."""

    rows: int
    outputs: int
    inputs: int
    warps: int
    stages: int


class Tiles(NamedTuple):
    """Of the two products of an expert: with w1 and w3 (`outputs` of each), and with w2. Both have the same rows."""

    up: Tile
    down: Tile


DENSE = {  # bfloat16 and float16
    16: Tiles(Tile(16, 32, 128, 4, 4), Tile(16, 32, 256, 4, 4)),
    32: Tiles(Tile(32, 64, 64, 4, 4), Tile(32, 64, 128, 4, 4)),
    64: Tiles(Tile(64, 64, 64, 4, 4), Tile(64, 128, 64, 4, 4)),
    128: Tiles(Tile(128, 64, 64, 8, 3), Tile(128, 128, 64, 8, 3)),
}
WIDE = {**DENSE, 128: Tiles(Tile(128, 128, 64, 8, 3), Tile(128, 256, 64, 8, 3))}  # of DENSE, where `has_wide_tiles`
INTEGERS = {  # the inputs in whole groups, 64
    16: Tiles(Tile(16, 64, 64, 4, 5), Tile(16, 32, 128, 4, 8)),
    32: Tiles(Tile(32, 64, 64, 4, 4), Tile(32, 64, 64, 4, 4)),
    64: Tiles(Tile(64, 64, 64, 4, 4), Tile(64, 64, 64, 4, 4)),
    128: Tiles(Tile(128, 64, 64, 8, 3), Tile(128, 128, 64, 8, 3)),
}
FP8 = {
    16: Tiles(Tile(16, 32, 256, 4, 4), Tile(16, 32, 256, 4, 5)),
    32: Tiles(Tile(32, 64, 128, 4, 4), Tile(32, 64, 128, 4, 5)),
    64: Tiles(Tile(64, 64, 64, 4, 4), Tile(64, 64, 128, 4, 4)),
    128: Tiles(Tile(128, 64, 64, 8, 3), Tile(128, 128, 64, 8, 3)),
}
FLOAT32 = {  # of any weights; exact products of float32 do not go to the tensor cores
    16: Tiles(Tile(16, 32, 64, 4, 3), Tile(16, 32, 64, 4, 3)),
    64: Tiles(Tile(64, 32, 64, 8, 2), Tile(64, 64, 64, 8, 2)),
}


def expert_tiles(rows: int, experts: int, dtype: torch.dtype, kind: QuantKind | None, *, wide: bool) -> Tiles:
    """The tiles for so many rows of that dtype among so many experts, whose weights are of that kind.

    A tile has room for twice the rows of an even load, so that nearly every weight is read once. An expert with more
    rows takes several tiles, which run side by side and find the weights in the L2 cache.
    """
    if dtype == torch.float32:
        table = FLOAT32
    elif kind is None:
        table = WIDE if wide else DENSE
    else:
        table = FP8 if kind is QuantKind.FP8 else INTEGERS
    wanted = 2 * -(-rows // experts)
    return table[min((size for size in table if size >= wanted), default=max(table))]


@cache
def has_wide_tiles(device: torch.device) -> bool:
    """Whether the tensor cores of this GPU take their operands from shared memory, which leaves registers for sums."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 9


def most_tiles(rows: int, experts: int, tile_rows: int) -> int:
    """How many tiles of rows there are at most, however the rows are spread over the experts."""
    busy = min(rows, experts)
    return busy + (rows - busy) // tile_rows
