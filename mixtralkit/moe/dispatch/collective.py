"""Rows travel by an all-to-all of exact counts: each rank sends each other rank just the rows of its experts."""

from dataclasses import dataclass

import torch

from mixtralkit.dist.collectives import Collectives, exchange_rows
from mixtralkit.moe.dispatch.agreement import gather_counts
from mixtralkit.moe.dispatch.base import Dispatch, Handle
from mixtralkit.moe.placement.plan import Placement
from mixtralkit.moe.routing import Routing
from mixtralkit.ops.expert_sort import expert_sort
from mixtralkit.ops.permute import sum_rows, take_rows


@dataclass(frozen=True)
class CollectiveHandle(Handle):
    """`pairs_N[i]` is the flat (token, k) pair of the i-th row sent; `arrival_R[i]` is the place at which the i-th row
    of the sorted rows arrived; the counts are rows to and from each rank.
    """

    pairs_N: torch.Tensor
    arrival_R: torch.Tensor
    send_counts: list[int]
    receive_counts: list[int]


class CollectiveDispatch(Dispatch):
    """All-to-all over torch.distributed: gloo on the CPU, NCCL on GPUs. Counts travel first and are compared."""

    name = "collective"

    def __init__(self, collectives: Collectives, placement: Placement) -> None:
        self._collectives = collectives
        self._shares = [len(placement.experts_of(rank)) for rank in range(placement.world_size)]
        owned = [expert for rank in range(placement.world_size) for expert in placement.experts_of(rank)]
        self._order_E = torch.tensor(owned, device=collectives.device)

    def dispatch(self, x_TD: torch.Tensor, routing: Routing) -> tuple[torch.Tensor, list[int], CollectiveHandle]:
        """See `Dispatch.dispatch`. Waits for the counts on the host once."""
        pairs_N, counts_E = expert_sort(routing.expert_ids_TK, self._order_E)
        counts_WE = gather_counts(self._collectives, counts_E, x_TD)
        by_owner = [part.sum(1) for part in counts_WE.split(self._shares, dim=1)]
        mine_We = counts_WE.split(self._shares, dim=1)[self._collectives.rank]
        handle = CollectiveHandle(
            routing=routing,
            pairs_N=pairs_N,
            arrival_R=_expert_major(mine_We).to(x_TD.device),
            send_counts=[int(counts_W[self._collectives.rank]) for counts_W in by_owner],
            receive_counts=mine_We.sum(1).tolist(),
        )
        sent_ND = take_rows(x_TD, pairs_N, routing.expert_ids_TK.shape[1])
        arrived_RD = exchange_rows(self._collectives, sent_ND, handle.send_counts, handle.receive_counts)
        return arrived_RD.index_select(0, handle.arrival_R), mine_We.sum(0).tolist(), handle

    def combine(self, rows_RD: torch.Tensor, handle: Handle) -> torch.Tensor:
        """See `Dispatch.combine`."""
        assert isinstance(handle, CollectiveHandle)
        arrived_RD = torch.empty_like(rows_RD).index_copy(0, handle.arrival_R, rows_RD)
        back_ND = exchange_rows(self._collectives, arrived_RD, handle.receive_counts, handle.send_counts)
        return sum_rows(back_ND, handle.pairs_N, handle.routing.weights_TK)


def _expert_major(counts_We: torch.Tensor) -> torch.Tensor:
    """Rows that lie by source rank and then expert: their places in the order of expert and then source."""
    ranks, experts = counts_We.shape
    expert_R = torch.arange(experts).repeat(ranks).repeat_interleave(counts_We.flatten())
    return torch.argsort(expert_R, stable=True)
