"""Rows carried by torch's process groups: gloo on the CPU, NCCL on GPUs."""

from collections.abc import Sequence

import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.moe.dispatch.row_mover import Piece, RowMover


class CollectiveMover(RowMover):
    """An all-to-all, with a copy on either side that puts the pieces of a rank together and takes them apart."""

    def __init__(self, collectives: Collectives) -> None:
        self.rank, self.size = collectives.rank, collectives.size
        self._collectives = collectives

    def all_gather(self, x: torch.Tensor) -> torch.Tensor:
        """See `RowMover.all_gather`."""
        return self._collectives.all_gather(x)

    def move(
        self, rows_ND: torch.Tensor, sends: Sequence[Piece], receives: Sequence[Piece], num_rows: int
    ) -> torch.Tensor:
        """See `RowMover.move`."""
        sent, arrived = (_by_rank(pieces, self.size) for pieces in (sends, receives))
        together_ND = _joined([rows_ND.narrow(0, piece.first, piece.rows) for piece in sent], rows_ND)
        counts = [_rows_by_rank(pieces, self.size) for pieces in (sends, receives)]
        received = self._collectives.all_to_all(together_ND, *counts)
        placed = received.new_empty(num_rows, *received.shape[1:])
        for piece, rows in zip(arrived, received.split([piece.rows for piece in arrived]), strict=True):
            placed.narrow(0, piece.first, piece.rows).copy_(rows)
        return placed

    def on_host(self, x: torch.Tensor) -> torch.Tensor:
        """See `RowMover.on_host`."""
        return x.cpu()


def _by_rank(pieces: Sequence[Piece], ranks: int) -> list[Piece]:
    return [piece for rank in range(ranks) for piece in pieces if piece.rank == rank]


def _rows_by_rank(pieces: Sequence[Piece], ranks: int) -> list[int]:
    return [sum(piece.rows for piece in pieces if piece.rank == rank) for rank in range(ranks)]


def _joined(parts: list[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    return torch.cat(parts) if parts else like[:0]
