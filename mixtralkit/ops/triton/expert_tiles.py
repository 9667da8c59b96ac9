"""How large the tiles of the experts' products are, and how many there are of them."""

from typing import NamedTuple

import torch

from mixtralkit.ops.quantized_weight import QuantKind
from mixtralkit.ops.triton.product_tiles import Tile, product_tile


class Tiles(NamedTuple):
    """Of the two products of an expert: with w1 and w3 (`outputs` of each), and with w2."""

    up: Tile
    down: Tile


def expert_tiles(rows: int, experts: int, dtype: torch.dtype, kind: QuantKind | None, arch: int) -> Tiles:
    """The tiles for so many rows of that dtype among so many experts, whose weights are of that kind."""
    room = room_for(rows, experts)
    return Tiles(product_tile(arch, "up", room, dtype, kind), product_tile(arch, "down", room, dtype, kind))


def room_for(rows: int, experts: int) -> int:
    """For how many rows a tile shall have room: twice those of an even load, so that nearly every weight is read once.

    An expert with more rows takes several tiles, which run side by side and find the weights in the L2 cache.
    """
    return 2 * -(-rows // experts)


def most_tiles(rows: int, experts: int, tile_rows: int) -> int:
    """How many tiles of rows there are at most, however the rows are spread over the experts."""
    busy = min(rows, experts)
    return busy + (rows - busy) // tile_rows
