"""Rows travel over NVLink by kernels of our own: written straight into the memory of the GPU that needs them.

A token goes to a rank once, however many of its experts are there; its results come back one by one and are weighted
and added at home. See cuda_peer_exchange.py and docs/peer_exchange.md.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from mixtralkit.moe.dispatch.base import Dispatch, Handle
from mixtralkit.moe.dispatch.cuda_peer_exchange import CudaPeerExchange
from mixtralkit.moe.dispatch.cuda_peer_parts import Arrived, Mover
from mixtralkit.moe.placement.routes import Routes
from mixtralkit.moe.routing import Routing
from mixtralkit.ops.expert_mlp import Counts
from mixtralkit.ops.permute import weighted_sum


@dataclass(frozen=True)
class CudaPeerHandle(Handle):
    """`arrived` tells whose the rows are."""

    arrived: Arrived


class CudaPeerDispatch(Dispatch):
    """One-sided exchange between the GPUs of one host. The host reads the counts once a dispatch."""

    name = "peer"

    def __init__(self, exchange: CudaPeerExchange, routes: Routes) -> None:
        self._exchange, self._routes = exchange, routes
        self._mover = Mover(exchange, routes, even=not self.waits_for_device)

    @cached_property
    def recordable(self) -> Dispatch:
        """The same exchange with as many tokens on every rank: counts stay on the device."""
        return EvenCudaPeerDispatch(self._exchange, self._routes)

    def dispatch(self, x_TD: torch.Tensor, routing: Routing) -> tuple[torch.Tensor, Counts, CudaPeerHandle]:
        """See `Dispatch.dispatch`."""
        if torch.is_grad_enabled():
            rows_RD, arrived = _Send.apply(x_TD, routing.expert_ids_TK, self._mover)  # type: ignore[no-untyped-call]
        else:
            rows_RD, arrived = self._mover.send(x_TD, routing.expert_ids_TK)
        return rows_RD, arrived.counts, CudaPeerHandle(routing, arrived)

    def combine(self, rows_RD: torch.Tensor, handle: Handle) -> torch.Tensor:
        """See `Dispatch.combine`."""
        assert isinstance(handle, CudaPeerHandle)
        ids_TK, weights_TK = handle.routing.expert_ids_TK, handle.routing.weights_TK
        if not torch.is_grad_enabled():
            return self._mover.bring_back(rows_RD, handle.arrived, ids_TK, weights_TK)
        results: torch.Tensor = _BringBack.apply(  # type: ignore[no-untyped-call]
            rows_RD, ids_TK, handle.arrived, self._mover
        )
        return weighted_sum(results.view(*ids_TK.shape, rows_RD.shape[1]), weights_TK).to(rows_RD.dtype)

    def check(self) -> None:
        """See `Dispatch.check`."""
        self._exchange.check()


class EvenCudaPeerDispatch(CudaPeerDispatch):
    """For steps that are recorded as a CUDA graph: every rank has as many tokens, and nothing waits for the device."""

    waits_for_device = False

    @property
    def recordable(self) -> Dispatch:
        """Nothing takes its place."""
        return self

    def most_tokens(self, width: int, dtype: torch.dtype, top_k: int) -> int:
        """See `Dispatch.most_tokens`: what has room in one exchange, as the host does not learn that there are more."""
        return self._exchange.capacity(width, dtype, top_k)


class _Send(torch.autograd.Function):
    """The gradient of a token is the sum of those of its rows: they are brought back like results."""

    @staticmethod
    def forward(ctx: Any, x_TD: torch.Tensor, ids_TK: torch.Tensor, mover: Mover) -> tuple[torch.Tensor, Arrived]:
        rows_RD, arrived = mover.send(x_TD, ids_TK)
        ctx.save_for_backward(ids_TK)
        ctx.mover, ctx.arrived = mover, arrived
        return rows_RD, arrived

    @staticmethod
    def backward(ctx: Any, grad_RD: torch.Tensor, _: Any) -> tuple[torch.Tensor | None, ...]:
        (ids_TK,) = ctx.saved_tensors
        ones_TK = torch.ones(ids_TK.shape, device=ids_TK.device)
        return ctx.mover.bring_back(grad_RD, ctx.arrived, ids_TK, ones_TK), None, None


class _BringBack(torch.autograd.Function):
    """The gradient of a result is sent to the expert like a token that has chosen it alone, and arrives in the same
    order: by expert, rank and token.
    """

    @staticmethod
    def forward(ctx: Any, rows_RD: torch.Tensor, ids_TK: torch.Tensor, arrived: Arrived, mover: Mover) -> torch.Tensor:
        ctx.save_for_backward(ids_TK)
        ctx.mover, ctx.num_rows = mover, len(rows_RD)
        return mover.bring_back(rows_RD, arrived, ids_TK, None)

    @staticmethod
    def backward(ctx: Any, grad_ND: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (ids_TK,) = ctx.saved_tensors
        rows_RD, _ = ctx.mover.send_exactly(grad_ND, ids_TK.view(-1, 1))
        none_RD = rows_RD.new_zeros(ctx.num_rows - len(rows_RD), rows_RD.shape[1])  # for rows behind the counted ones
        return torch.cat((rows_RD, none_RD)), None, None, None
