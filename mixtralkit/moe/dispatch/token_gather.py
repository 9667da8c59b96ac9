"""Every rank's tokens and their routing, on every rank, in one message when there are few."""

from dataclasses import dataclass
from typing import Any

import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.moe.dispatch.packed_rows import pack_rows, read_as, unpack_rows
from mixtralkit.moe.routing import Routing

FIRST_TOKENS = 8  # how many travel in the first message, which has room for them whether there are any or not


@dataclass(frozen=True)
class GatheredTokens:
    """The A tokens of all ranks, in the order of the ranks; `counts[r]` of them are rank r's."""

    x_AD: torch.Tensor
    expert_ids_AK: torch.Tensor
    weights_AK: torch.Tensor
    counts: list[int]


def gather_tokens(collectives: Collectives, x_TD: torch.Tensor, routing: Routing) -> GatheredTokens:
    """Gather over all ranks, each of which may have another number of tokens. Differentiable in x and the weights."""
    x_AD, weights_AK, expert_ids_AK, counts = _GatherTokens.apply(  # type: ignore[no-untyped-call]
        x_TD, routing.weights_TK, routing.expert_ids_TK, collectives
    )
    return GatheredTokens(x_AD, expert_ids_AK, weights_AK, counts)


class _GatherTokens(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_TD: torch.Tensor, weights_TK: torch.Tensor, ids_TK: torch.Tensor, collectives: Collectives
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[int]]:
        parts = (x_TD, weights_TK, ids_TK.int())
        counts, gathered = _gather(collectives, pack_rows(parts))
        x_AD, weights_AK, ids_AK = unpack_rows(gathered, parts)
        ctx.collectives, ctx.counts = collectives, counts
        ids_AK = ids_AK.long()
        ctx.mark_non_differentiable(ids_AK)
        return x_AD, weights_AK, ids_AK, counts

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        own = ctx.counts[ctx.collectives.rank]
        back = [
            ctx.collectives.all_to_all(grad.contiguous(), ctx.counts, [own] * ctx.collectives.size)
            .view(ctx.collectives.size, own, grad.shape[1])
            .sum(0)
            for grad in grads[:2]
        ]
        return back[0], back[1], None, None


def _gather(collectives: Collectives, packed_TB: torch.Tensor) -> tuple[list[int], torch.Tensor]:
    """The rows of bytes of all ranks, and how many come from each."""
    first = packed_TB.new_zeros(1 + FIRST_TOKENS, packed_TB.shape[1])
    first[0, :8] = torch.tensor([packed_TB.shape[0]], device=first.device).view(torch.uint8)
    first[1 : 1 + packed_TB.shape[0]] = packed_TB[:FIRST_TOKENS]
    arrived = collectives.all_gather(first)
    counts: list[int] = read_as(torch.int64, arrived[:, 0, :8]).flatten().tolist()
    heads = [arrived[rank, 1 : 1 + count] for rank, count in enumerate(counts)]
    if max(counts) <= FIRST_TOKENS:
        return counts, torch.cat(heads)
    rest = packed_TB[FIRST_TOKENS:]
    rest_counts = [max(count - FIRST_TOKENS, 0) for count in counts]
    sent = rest.repeat(collectives.size, 1)
    tails = collectives.all_to_all(sent, [rest.shape[0]] * collectives.size, rest_counts).split(rest_counts)
    return counts, torch.cat([part for pair in zip(heads, tails, strict=True) for part in pair])
