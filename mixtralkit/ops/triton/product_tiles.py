"""How large the tiles of products are, by how many rows there are and what is multiplied.

Few rows are bound by reading the weights, so what counts is how many bytes are on the way at a time, some 40 KB a
multiprocessor and more, in enough programs for all of them. Many rows are bound by the tensor cores, so what counts is
in how many products a loaded element takes part. Exact products of float32 do not go to the tensor cores.
"""

from typing import NamedTuple

import torch

from mixtralkit.ops.quantized_weight import QuantKind
from mixtralkit.ops.triton.tile_table import chosen, table

SIZES = (16, 32, 64)  # of rows for which there are entries, besides "more"


class Tile(NamedTuple):
    """What one program computes, `[rows, outputs]`, going through so many inputs at a time; and its launch."""

    rows: int
    outputs: int
    inputs: int
    warps: int
    stages: int


def product_tile(arch: int, product: str, rows: int, dtype: torch.dtype, kind: QuantKind | None) -> Tile:
    """The tile of `product`, "up" and the like, for so many rows of that dtype and weights of that kind."""
    return Tile(**chosen(arch, product_entry(arch, product, rows, dtype, kind)))


def product_entry(arch: int, product: str, rows: int, dtype: torch.dtype, kind: QuantKind | None) -> str:
    """The name of that tile's entry."""
    weights = "float32" if dtype == torch.float32 else "dense" if kind is None else kind.value
    names = (f"{product}/{weights}/{size}" for size in SIZES if size >= rows)
    return next((name for name in names if name in table()[arch]), f"{product}/{weights}/more")
