"""Any dispatch, of the rows only that their experts have room for."""

from dataclasses import dataclass

import torch

from mixtralkit.moe.capacity import Capacity, rows_kept
from mixtralkit.moe.dispatch.base import Dispatch, Handle
from mixtralkit.moe.routing import Routing
from mixtralkit.ops.expert_mlp import Counts
from mixtralkit.ops.permute import take_rows, weighted_sum


@dataclass(frozen=True)
class LimitedHandle(Handle):
    """`pairs_N[i]` is the flat (token, k) pair of the i-th row sent; `inner` is the handle of the dispatch below."""

    pairs_N: torch.Tensor
    inner: Handle


class LimitedDispatch(Dispatch):
    """Sends the rows that a capacity leaves, each as a token of its own with one expert, by another dispatch.

    A token's results meet at home: those of its dropped rows count as zeros, so a token that loses all of them has what
    its residual carries. Where nothing is dropped the sums are those of the other dispatch, bit for bit.
    """

    name = "limited"

    def __init__(self, inner: Dispatch, capacity: Capacity, held_E: torch.Tensor, dropped_E: torch.Tensor) -> None:
        """`held_E` (bool, on the device of the tokens) marks the experts that this rank holds, which are not cold.

        `dropped_E` (int64, there too) is the caller's: the rows dropped of each expert are added to it.
        """
        self._inner = inner
        self._capacity = capacity
        self._held_E = held_E
        self._dropped_E = dropped_E

    def dispatch(self, x_TD: torch.Tensor, routing: Routing) -> tuple[torch.Tensor, Counts, LimitedHandle]:
        """See `Dispatch.dispatch`. Waits on the host for the number of rows that are kept."""
        tokens, top_k = routing.expert_ids_TK.shape
        kept_TK = rows_kept(routing, self._capacity.limits(tokens, top_k, self._held_E))
        self._dropped_E.index_add_(0, routing.expert_ids_TK.flatten(), (~kept_TK).flatten().long())
        pairs_N = kept_TK.flatten().nonzero().flatten()
        ids_N = routing.expert_ids_TK.flatten().index_select(0, pairs_N)
        alone = Routing(ids_N[:, None], torch.ones_like(ids_N[:, None], dtype=torch.float32))
        sent_ND = take_rows(x_TD, pairs_N, top_k)
        rows_RD, counts_e, inner = self._inner.dispatch(sent_ND, alone)
        return rows_RD, counts_e, LimitedHandle(routing, pairs_N, inner)

    def combine(self, rows_RD: torch.Tensor, handle: Handle) -> torch.Tensor:
        """See `Dispatch.combine`."""
        assert isinstance(handle, LimitedHandle)
        results_ND = self._inner.combine(rows_RD, handle.inner)
        weights_TK, width = handle.routing.weights_TK, results_ND.shape[1]
        by_pair = results_ND.new_zeros(weights_TK.numel(), width).index_copy(0, handle.pairs_N, results_ND)
        return weighted_sum(by_pair.view(*weights_TK.shape, width), weights_TK).to(rows_RD.dtype)

    def check(self) -> None:
        """See `Dispatch.check`."""
        self._inner.check()
