"""All experts on this rank: nothing travels. The plainest dispatch, and the oracle of the others."""

from dataclasses import dataclass

import torch

from mixtralkit.moe.dispatch.base import Dispatch, Handle
from mixtralkit.moe.routing import Routing
from mixtralkit.ops.expert_sort import expert_sort
from mixtralkit.ops.permute import sum_rows, take_rows


@dataclass(frozen=True)
class LocalHandle(Handle):
    """`pairs_N[i]` is the flat (token, k) pair of row i."""

    pairs_N: torch.Tensor


class LocalDispatch(Dispatch):
    """Sorts the rows by expert, and puts their results back in place."""

    name = "local"

    def __init__(self, num_experts: int) -> None:
        self._num_experts = num_experts

    def dispatch(self, x_TD: torch.Tensor, routing: Routing) -> tuple[torch.Tensor, list[int], LocalHandle]:
        """See `Dispatch.dispatch`."""
        order_E = torch.arange(self._num_experts, device=x_TD.device)
        pairs_N, counts_E = expert_sort(routing.expert_ids_TK, order_E)
        rows_RD = take_rows(x_TD, pairs_N, routing.expert_ids_TK.shape[1])
        return rows_RD, counts_E.tolist(), LocalHandle(routing, pairs_N)

    def combine(self, rows_RD: torch.Tensor, handle: Handle) -> torch.Tensor:
        """See `Dispatch.combine`."""
        assert isinstance(handle, LocalHandle)
        return sum_rows(rows_RD, handle.pairs_N, handle.routing.weights_TK)
