"""An exchange whose sizes the host knows beforehand, so that nothing waits for the device: for captured decode steps.

Every rank has the same number of tokens, T. All ranks get all tokens and their experts; each takes the rows of its
own experts, and sends every rank a block with a slot for each of that rank's rows that it may have computed. Of a
token that is at most one row for each expert, so there are S = min(K, experts of a rank) slots a token. (Not run on a
GPU yet.)
"""

from dataclasses import dataclass

import torch

from mixtralkit.moe.dispatch.base import Dispatch, Handle
from mixtralkit.moe.dispatch.row_mover import RowMover, even_pieces, gathered_tokens, moved_rows
from mixtralkit.moe.placement.routes import Routes
from mixtralkit.moe.routing import Routing
from mixtralkit.ops.expert_mlp import Counts
from mixtralkit.ops.expert_sort import expert_sort
from mixtralkit.ops.permute import weighted_sum


@dataclass(frozen=True)
class FixedHandle(Handle):
    """`slots_R[i]` is the place of row i's result in the blocks sent home, one further place for rows that mean
    nothing; `home_N[i]` is where the result of the i-th (token, k) pair arrives. A block has `block` slots.
    """

    slots_R: torch.Tensor
    home_N: torch.Tensor
    block: int


class FixedDispatch(Dispatch):
    """All-gather of tokens, and blocks of equal sizes home. Counts stay on the device."""

    name = "fixed"
    waits_for_device = False

    def __init__(self, mover: RowMover, routes: Routes, device: torch.device) -> None:
        self._mover = mover
        placement = routes.placement
        self._most_experts = max(len(placement.experts_of(rank)) for rank in range(routes.world_size))
        self._num_local = len(routes.local_experts)
        # An expert's number here; behind those that are here comes a number for all others.
        local = {expert: number for number, expert in enumerate(routes.local_experts)}
        local_E = [local.get(expert, self._num_local) for expert in range(placement.num_experts)]
        self._local_E = torch.tensor(local_E, device=device)
        self._owner_WE = torch.tensor(routes.owner_WE, device=device)
        self._order = torch.arange(self._num_local + 1, device=device)

    def dispatch(self, x_TD: torch.Tensor, routing: Routing) -> tuple[torch.Tensor, Counts, FixedHandle]:
        """See `Dispatch.dispatch`. Every rank must have as many tokens as this one. Waits for nothing."""
        x_WTD, ids_WTK = gathered_tokens(self._mover, x_TD, routing.expert_ids_TK)
        ranks, tokens, top_k = ids_WTK.shape
        block = tokens * min(top_k, self._most_experts)
        owner_WTK = self._owner_WE.gather(1, ids_WTK.flatten(1)).view_as(ids_WTK)
        slot_WTK = _slots(owner_WTK, block)
        mine_WTK = owner_WTK == self._mover.rank
        local_WTK = torch.where(mine_WTK, self._local_E[ids_WTK], self._num_local)
        pairs_N, counts = expert_sort(local_WTK.view(ranks * tokens, top_k), self._order)
        pairs_R = pairs_N[: ranks * block]
        sources_W = torch.arange(ranks, device=x_TD.device)[:, None, None]
        slots_WTK = torch.where(mine_WTK, sources_W * block + slot_WTK, ranks * block)
        here = self._mover.rank
        home_N = (owner_WTK[here] * block + slot_WTK[here]).flatten()
        tokens_R = pairs_R // top_k
        rows_RD = x_WTD[tokens_R // max(tokens, 1), tokens_R % max(tokens, 1)]
        return rows_RD, counts[: self._num_local], FixedHandle(routing, slots_WTK.flatten()[pairs_R], home_N, block)

    def combine(self, rows_RD: torch.Tensor, handle: Handle) -> torch.Tensor:
        """See `Dispatch.combine`. Waits for nothing."""
        assert isinstance(handle, FixedHandle)
        slots, width = self._mover.size * handle.block, rows_RD.shape[1]
        blocks = rows_RD.new_empty(slots + 1, width).index_copy_(0, handle.slots_R, rows_RD)[:slots]
        pieces = even_pieces(self._mover.size, handle.block)
        home = moved_rows(self._mover, blocks, pieces, pieces, slots)
        weights_TK = handle.routing.weights_TK
        results_TKD = home.index_select(0, handle.home_N).view(*weights_TK.shape, width)
        return weighted_sum(results_TKD, weights_TK).to(rows_RD.dtype)


def _slots(owner_WTK: torch.Tensor, block: int) -> torch.Tensor:
    """The slot of each row in the block that its owner sends home: those of a token lie together, by their k."""
    tokens, top_k = owner_WTK.shape[1:]
    same_WTKK = owner_WTK[..., :, None] == owner_WTK[..., None, :]
    before_KK = torch.ones(top_k, top_k, dtype=torch.bool, device=owner_WTK.device).tril(-1)
    earlier_WTK = (same_WTKK & before_KK).sum(-1)
    first_T = torch.arange(tokens, device=owner_WTK.device) * (block // max(tokens, 1))
    return first_T[:, None] + earlier_WTK
