"""Moving rows between ranks: what the dispatches that place rows themselves need, whatever carries them.

A piece is rows that lie together. Between two ranks pieces travel in the order in which both name them, so the sender
and the receiver of one must agree on its place in that order and on its length.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch


class Piece(NamedTuple):
    """`rows` rows, at least one, from row `first` on; `rank` is where they go to or come from."""

    rank: int
    first: int
    rows: int


class RowMover(ABC):
    """One rank's end of what carries rows. All ranks make the same calls in the same order.

    Where a rank does not come within the group's time-out or is lost, `RankFailure` is raised, or `GroupFailure`.
    """

    rank: int
    size: int

    @abstractmethod
    def all_gather(self, x: torch.Tensor) -> torch.Tensor:
        """Every rank's `x`, stacked in the order of the ranks: `[W, *x.shape]`. The shapes must be equal."""

    @abstractmethod
    def move(
        self, rows_ND: torch.Tensor, sends: Sequence[Piece], receives: Sequence[Piece], num_rows: int
    ) -> torch.Tensor:
        """Send pieces of `rows_ND`; returns `[num_rows, D]` with what came in the places that `receives` names."""

    @abstractmethod
    def on_host(self, x: torch.Tensor) -> torch.Tensor:
        """A copy of `x` on the CPU. Waits for the device, and so for the ranks that `x` has come from."""


def gathered_tokens(mover: RowMover, x_TD: torch.Tensor, ids_TK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """All ranks' tokens and expert ids in one message, `[W, T, D]` and `[W, T, K]`; differentiable in the tokens.

    Every rank has the same number of them.
    """
    return cast(
        tuple[torch.Tensor, torch.Tensor],
        _GatheredTokens.apply(x_TD, ids_TK, mover),  # type: ignore[no-untyped-call]
    )


def moved_rows(
    mover: RowMover, rows_ND: torch.Tensor, sends: Sequence[Piece], receives: Sequence[Piece], num_rows: int
) -> torch.Tensor:
    """`RowMover.move` with a gradient, which travels the other way.

    Every row of `rows_ND` must be in one of `sends` at most.
    """
    moved = _MovedRows.apply(rows_ND, mover, sends, receives, num_rows)  # type: ignore[no-untyped-call]
    return cast(torch.Tensor, moved)


def even_pieces(ranks: int, count: int) -> list[Piece]:
    """`count` rows for each rank, one behind the other."""
    return [Piece(rank, rank * count, count) for rank in range(ranks) if count]


class _MovedRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows_ND: torch.Tensor,
        mover: RowMover,
        sends: Sequence[Piece],
        receives: Sequence[Piece],
        num_rows: int,
    ) -> torch.Tensor:
        ctx.back = mover, receives, sends, rows_ND.shape[0]
        return mover.move(rows_ND.contiguous(), sends, receives, num_rows)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        mover, sends, receives, num_rows = ctx.back
        return mover.move(grad.contiguous(), sends, receives, num_rows), None, None, None, None


class _GatheredTokens(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_TD: torch.Tensor, ids_TK: torch.Tensor, mover: RowMover
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.mover = mover
        parts = [part.contiguous().view(-1).view(torch.uint8) for part in (ids_TK.long(), x_TD)]
        # All ranks' ids are read where they lie, as numbers of 8 bytes; and a message is never empty.
        parts.append(parts[0].new_zeros(8 - sum(part.numel() for part in parts) % 8))
        gathered = mover.all_gather(torch.cat(parts))
        ids_bytes, x_bytes = parts[0].numel(), parts[1].numel()
        ids_WTK = gathered[:, :ids_bytes].view(torch.int64).view(mover.size, *ids_TK.shape)
        x_WTD = gathered[:, ids_bytes : ids_bytes + x_bytes].view(x_TD.dtype).view(mover.size, *x_TD.shape)
        ctx.mark_non_differentiable(ids_WTK)
        return x_WTD, ids_WTK

    @staticmethod
    def backward(ctx: Any, grad_WTD: torch.Tensor, _: Any) -> tuple[torch.Tensor | None, ...]:
        ranks, tokens, width = grad_WTD.shape
        pieces = even_pieces(ranks, tokens)
        back = ctx.mover.move(grad_WTD.reshape(ranks * tokens, width), pieces, pieces, ranks * tokens)
        return back.view(grad_WTD.shape).sum(0), None, None
