"""Tensors that tell of the same rows, as one tensor of bytes: they travel in one message."""

from collections.abc import Sequence

import torch


def pack_rows(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """The rows of all `parts`, each `[R, ...]` of two dimensions and any dtype, side by side: uint8 `[R, bytes]`."""
    return torch.cat([part.contiguous().view(torch.uint8) for part in parts], dim=1)


def unpack_rows(packed_RB: torch.Tensor, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Undo `pack_rows` of tensors with the widths and dtypes of `like`."""
    pieces = packed_RB.split([part.shape[1] * part.itemsize for part in like], dim=1)
    return [read_as(part.dtype, piece) for part, piece in zip(like, pieces, strict=True)]


def read_as(dtype: torch.dtype, piece_RB: torch.Tensor) -> torch.Tensor:
    """The bytes as numbers of `dtype`. Always a copy: a piece of one row counts as contiguous wherever it lies."""
    return piece_RB.clone(memory_format=torch.contiguous_format).view(dtype)
