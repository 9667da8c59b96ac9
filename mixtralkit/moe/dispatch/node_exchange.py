"""Tokens with their routing go to the relays of other nodes, in one message each. Differentiable."""

from collections.abc import Sequence
from typing import Any

import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.moe.dispatch.packed_rows import pack_rows, unpack_rows
from mixtralkit.moe.routing import Routing


def send_tokens(
    collectives: Collectives, x_CD: torch.Tensor, routing: Routing, send: Sequence[int], receive: Sequence[int]
) -> tuple[torch.Tensor, Routing]:
    """Send `send[r]` consecutive tokens to each rank r; returns the tokens that came, in the order of the ranks.

    The caller must know that `receive` is what the others send. Differentiable in x and the weights.
    """
    x_AD, weights_AK, ids_AK = _SendTokens.apply(  # type: ignore[no-untyped-call]
        x_CD, routing.weights_TK, routing.expert_ids_TK, collectives, send, receive
    )
    return x_AD, Routing(ids_AK, weights_AK)


class _SendTokens(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_CD: torch.Tensor,
        weights_CK: torch.Tensor,
        ids_CK: torch.Tensor,
        collectives: Collectives,
        send: Sequence[int],
        receive: Sequence[int],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        parts = (x_CD, weights_CK, ids_CK.int())
        received_AB = collectives.all_to_all(pack_rows(parts), send, receive)
        x_bytes = x_CD.shape[1] * x_CD.itemsize
        x_AD = received_AB[:, :x_bytes].view(x_CD.dtype)  # where it lies: what is behind it are multiples of 8 bytes
        weights_AK, ids_AK = unpack_rows(received_AB[:, x_bytes:], parts[1:])
        ctx.collectives, ctx.send, ctx.receive = collectives, send, receive
        ids_AK = ids_AK.long()
        ctx.mark_non_differentiable(ids_AK)
        return x_AD, weights_AK, ids_AK

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        packed = ctx.collectives.all_to_all(pack_rows(grads[:2]), ctx.receive, ctx.send)
        grad_x_CD, grad_weights_CK = unpack_rows(packed, grads[:2])
        return grad_x_CD, grad_weights_CK, None, None, None, None
