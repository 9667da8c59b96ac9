"""Rows travel over memory that the ranks of a host share: written where they are needed, no counts in advance.

A token goes to a rank once, however many of its experts are there. See peer_exchange.py and docs/peer_exchange.md.
"""

from array import array
from dataclasses import dataclass
from typing import Any

import torch

from mixtralkit.moe.dispatch.base import Dispatch, Handle
from mixtralkit.moe.dispatch.peer_exchange import PeerExchange, peer_table
from mixtralkit.moe.placement.routes import Routes
from mixtralkit.moe.routing import Routing
from mixtralkit.ops.permute import weighted_sum


@dataclass(frozen=True)
class PeerHandle(Handle):
    """`arrivals` tells whose rows came: [W] tokens from each rank, then for these tokens, in the order of the ranks,
    the places of their K rows among the sorted ones (-1: elsewhere), then their weights (float32): int32 `[W + 2AK]`.
    """

    arrivals: torch.Tensor


class PeerDispatch(Dispatch):
    """One-sided exchange over shared memory, for ranks on the CPUs of one host."""

    name = "peer"

    def __init__(self, exchange: PeerExchange, routes: Routes) -> None:
        self._exchange = exchange
        self._table = peer_table(routes)

    def dispatch(self, x_TD: torch.Tensor, routing: Routing) -> tuple[torch.Tensor, list[int], PeerHandle]:
        """See `Dispatch.dispatch`."""
        if torch.is_grad_enabled():
            rows_RD, counts, arrivals = _Dispatch.apply(  # type: ignore[no-untyped-call]
                x_TD, routing.weights_TK, routing.expert_ids_TK, self._exchange, self._table
            )
        else:
            rows_RD, counts, arrivals = self._exchange.send(
                x_TD, routing.expert_ids_TK, routing.weights_TK, self._table
            )
        return rows_RD, counts, PeerHandle(routing, arrivals)

    def combine(self, rows_RD: torch.Tensor, handle: Handle) -> torch.Tensor:
        """See `Dispatch.combine`.

        Two numbers add up to the same in either order, so with a top-k of 2 or less partial sums may be formed where
        the experts are. Beyond, each of the K results keeps its own place until it is home.
        """
        assert isinstance(handle, PeerHandle)
        weights_TK = handle.routing.weights_TK
        if torch.is_grad_enabled():
            ids_TK, arrivals = handle.routing.expert_ids_TK, handle.arrivals
            total_TD: torch.Tensor = _Combine.apply(  # type: ignore[no-untyped-call]
                rows_RD, weights_TK, ids_TK, arrivals, self._exchange, self._table
            )
            return total_TD
        ids_TK = handle.routing.expert_ids_TK
        return _total(self._exchange, rows_RD, handle.arrivals, ids_TK, weights_TK, self._table)


def _total(
    exchange: PeerExchange,
    rows_RD: torch.Tensor,
    arrivals: torch.Tensor,
    ids_TK: torch.Tensor,
    weights_TK: torch.Tensor | None,
    table: "array[int]",
) -> torch.Tensor:
    """Each token's sum of results, at home and in their dtype; without weights each counts once."""
    merged = ids_TK.shape[1] <= 2 and rows_RD.dtype == torch.float32
    out = exchange.bring_back(rows_RD, arrivals, ids_TK, table, merged=merged, weighted=weights_TK is not None)
    if merged:
        return out
    if weights_TK is None:
        weights_TK = torch.ones(ids_TK.shape)
    return weighted_sum(out.view(*ids_TK.shape, rows_RD.shape[1]), weights_TK).to(rows_RD.dtype)


class _Dispatch(torch.autograd.Function):
    """The gradient of a token is the sum of those of its rows: they are brought back like results."""

    @staticmethod
    def forward(
        ctx: Any,
        x_TD: torch.Tensor,
        weights_TK: torch.Tensor,
        ids_TK: torch.Tensor,
        exchange: PeerExchange,
        table: "array[int]",
    ) -> tuple[torch.Tensor, list[int], torch.Tensor]:
        rows_RD, counts, arrivals = exchange.send(x_TD, ids_TK, weights_TK, table)
        ctx.save_for_backward(ids_TK, arrivals)
        ctx.exchange, ctx.table = exchange, table
        ctx.mark_non_differentiable(arrivals)
        return rows_RD, counts, arrivals

    @staticmethod
    def backward(ctx: Any, grad_RD: torch.Tensor, *_: Any) -> tuple[torch.Tensor | None, ...]:
        ids_TK, arrivals = ctx.saved_tensors
        return _total(ctx.exchange, grad_RD, arrivals, ids_TK, None, ctx.table), None, None, None, None


class _Combine(torch.autograd.Function):
    """The gradient of a result is its token's, weighted: it is sent to the experts as tokens are.

    That of a weight is the product of the result and the token's gradient. It is formed where both are, at the
    expert, and brought back in a row of K numbers that are 0 but for its own.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows_RD: torch.Tensor,
        weights_TK: torch.Tensor,
        ids_TK: torch.Tensor,
        arrivals: torch.Tensor,
        exchange: PeerExchange,
        table: "array[int]",
    ) -> torch.Tensor:
        ctx.save_for_backward(rows_RD, weights_TK, ids_TK, arrivals)
        ctx.exchange, ctx.table = exchange, table
        return _total(exchange, rows_RD, arrivals, ids_TK, weights_TK, table)

    @staticmethod
    def backward(ctx: Any, grad_TD: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows_RD, weights_TK, ids_TK, arrivals = ctx.saved_tensors
        grad_RD = ctx.exchange.send(grad_TD, ids_TK, weights_TK, ctx.table)[0].float()
        choices_R, weights_R = _of_rows(arrivals, ctx.exchange.ranks, ids_TK.shape[1])
        products_R = (grad_RD * rows_RD.float()).sum(1)
        products_RK = torch.nn.functional.one_hot(choices_R, ids_TK.shape[1]) * products_R[:, None]
        grad_weights_TK = _total(ctx.exchange, products_RK, arrivals, ids_TK, None, ctx.table)
        return (grad_RD * weights_R[:, None]).to(rows_RD.dtype), grad_weights_TK, None, None, None, None


def _of_rows(arrivals: torch.Tensor, ranks: int, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each sorted row: which of its token's K choices it is, and its weight."""
    places_AK, weights_AK = arrivals[ranks:].view(2, -1, top_k)
    choices_AK = torch.arange(top_k).expand_as(places_AK)
    here = places_AK >= 0
    order_R = torch.argsort(places_AK[here])
    return choices_AK[here][order_R], weights_AK.view(torch.float32)[here][order_R]
