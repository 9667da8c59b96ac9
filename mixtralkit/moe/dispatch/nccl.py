"""Each row travels straight to its place among its expert's rows: exact counts first, then a message an expert.

Nothing is sorted or copied where rows arrive. What carries them is a `RowMover`: on GPUs NCCL, through a communicator
of our own (nccl_exchange.py). (Not run on a GPU yet.)
"""

from dataclasses import dataclass

import torch

from mixtralkit.moe.dispatch.agreement import agreed_counts, counts_message
from mixtralkit.moe.dispatch.base import Dispatch, Handle
from mixtralkit.moe.dispatch.fixed import FixedDispatch
from mixtralkit.moe.dispatch.move_plan import MovePlan, plan_moves
from mixtralkit.moe.dispatch.row_mover import RowMover, moved_rows
from mixtralkit.moe.placement.routes import Routes
from mixtralkit.moe.routing import Routing
from mixtralkit.ops.expert_mlp import Counts
from mixtralkit.ops.expert_sort import expert_sort
from mixtralkit.ops.permute import sum_rows, take_rows


@dataclass(frozen=True)
class NcclHandle(Handle):
    """`pairs_N[i]` is the flat (token, k) pair of the i-th row sent, by expert; `plan` is where all rows went."""

    pairs_N: torch.Tensor
    plan: MovePlan


class NcclDispatch(Dispatch):
    """Grouped sends and receives, one for each rank and expert that have rows for each other."""

    name = "nccl"

    def __init__(self, mover: RowMover, routes: Routes, device: torch.device) -> None:
        self._mover = mover
        self._routes = routes
        self._fixed = FixedDispatch(mover, routes, device)
        self._order_E = torch.arange(routes.placement.num_experts, device=device)

    @property
    def recordable(self) -> Dispatch:
        """The same exchange in sizes that the host knows beforehand."""
        return self._fixed

    def dispatch(self, x_TD: torch.Tensor, routing: Routing) -> tuple[torch.Tensor, Counts, NcclHandle]:
        """See `Dispatch.dispatch`. Waits for the counts on the host once."""
        pairs_N, counts_E = expert_sort(routing.expert_ids_TK, self._order_E)
        gathered = self._mover.all_gather(counts_message(counts_E, x_TD))
        plan = plan_moves(agreed_counts(self._mover.on_host(gathered)).tolist(), self._routes)
        sent_ND = take_rows(x_TD, pairs_N, routing.expert_ids_TK.shape[1])
        rows_RD = moved_rows(self._mover, sent_ND, plan.sends, plan.receives, sum(plan.counts_e))
        return rows_RD, plan.counts_e, NcclHandle(routing, pairs_N, plan)

    def combine(self, rows_RD: torch.Tensor, handle: Handle) -> torch.Tensor:
        """See `Dispatch.combine`. Waits for nothing."""
        assert isinstance(handle, NcclHandle)
        plan, num_rows = handle.plan, handle.pairs_N.shape[0]
        back_ND = moved_rows(self._mover, rows_RD, plan.receives, plan.sends, num_rows)
        return sum_rows(back_ND, handle.pairs_N, handle.routing.weights_TK)
