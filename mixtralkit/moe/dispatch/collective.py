"""Rows travel by an all-to-all of exact counts: each rank sends each other rank just the rows of its experts."""

from dataclasses import dataclass

import torch

from mixtralkit.dist.collectives import Collectives, exchange_rows
from mixtralkit.moe.dispatch.agreement import gather_counts
from mixtralkit.moe.dispatch.base import Handle
from mixtralkit.moe.dispatch.over_collectives import OverCollectives
from mixtralkit.moe.placement.routes import Routes
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


class CollectiveDispatch(OverCollectives):
    """All-to-all over torch.distributed: gloo on the CPU, NCCL on GPUs. Counts travel first and are compared."""

    name = "collective"

    def __init__(self, collectives: Collectives, routes: Routes) -> None:
        super().__init__(collectives, routes)
        owner_E = routes.owner_E
        by_owner = sorted(range(len(owner_E)), key=lambda expert: (owner_E[expert], expert))
        self._order_E = torch.tensor(by_owner, device=collectives.device)
        self._owner_E = torch.tensor(owner_E)
        # Which rank's rows of each of this rank's experts come here.
        mine = [[owners[expert] == routes.rank for expert in routes.local_experts] for owners in routes.owner_WE]
        self._comes_We = torch.tensor(mine, dtype=torch.int64).view(routes.world_size, -1)
        self._local_e = torch.tensor(routes.local_experts, dtype=torch.int64)

    def dispatch(self, x_TD: torch.Tensor, routing: Routing) -> tuple[torch.Tensor, list[int], CollectiveHandle]:
        """See `Dispatch.dispatch`. Waits for the counts on the host once."""
        pairs_N, sorted_counts_E = expert_sort(routing.expert_ids_TK, self._order_E)
        counts_E = torch.empty_like(sorted_counts_E).index_copy_(0, self._order_E, sorted_counts_E)
        counts_WE = gather_counts(self._collectives, counts_E, x_TD)
        mine_We = counts_WE[:, self._local_e] * self._comes_We
        sent_W = torch.zeros(self._collectives.size, dtype=torch.int64)
        sent_W.index_add_(0, self._owner_E, counts_WE[self._collectives.rank])
        handle = CollectiveHandle(
            routing=routing,
            pairs_N=pairs_N,
            arrival_R=_expert_major(mine_We).to(x_TD.device),
            send_counts=sent_W.tolist(),
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
