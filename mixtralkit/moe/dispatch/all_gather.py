"""Every rank gets every token, computes what its experts have to say, and the answers are summed on the way back.

Fewer, larger messages than an all-to-all: right for two ranks and for tiny batches, wasteful beyond.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from mixtralkit.dist.collectives import Collectives, gather_rows, scatter_sum
from mixtralkit.moe.dispatch.agreement import gather_counts
from mixtralkit.moe.dispatch.base import Dispatch, Handle
from mixtralkit.moe.placement.plan import Placement
from mixtralkit.moe.routing import Routing
from mixtralkit.ops.expert_sort import expert_sort
from mixtralkit.ops.permute import take_rows


@dataclass(frozen=True)
class AllGatherHandle(Handle):
    """`pairs_R[i]` is the flat (token, k) pair, over the tokens of all ranks, of row i; `weights_R` is its weight;
    `tokens_per_rank` is the length to which every rank's tokens were padded."""

    pairs_R: torch.Tensor
    weights_R: torch.Tensor
    tokens_per_rank: int


class AllGatherDispatch(Dispatch):
    """All-gather of tokens and routing, reduce-scatter of results."""

    name = "all_gather"

    def __init__(self, collectives: Collectives, placement: Placement) -> None:
        self._collectives = collectives
        self._num_experts = placement.num_experts
        self._num_local = len(placement.experts_of(collectives.rank))
        others = [e for e in range(placement.num_experts) if placement.rank_of_expert[e] != collectives.rank]
        padding = placement.num_experts  # the "expert" of padded tokens
        order = [*placement.experts_of(collectives.rank), *others, padding]
        self._local_first = torch.tensor(order, device=collectives.device)

    def dispatch(self, x_TD: torch.Tensor, routing: Routing) -> tuple[torch.Tensor, list[int], AllGatherHandle]:
        """See `Dispatch.dispatch`. Waits for the counts on the host twice."""
        tokens, top_k = routing.expert_ids_TK.shape
        sizes_W1 = gather_counts(self._collectives, torch.tensor([tokens], device=x_TD.device), x_TD)
        longest = int(sizes_W1.max())
        padding = (0, 0, 0, longest - tokens)
        all_x = gather_rows(self._collectives, F.pad(x_TD, padding)).flatten(0, 1)
        all_weights = gather_rows(self._collectives, F.pad(routing.weights_TK, padding)).flatten()
        padded_ids = F.pad(routing.expert_ids_TK, padding, value=self._num_experts)
        pairs, counts = expert_sort(self._collectives.all_gather(padded_ids), self._local_first)
        counts_e = counts[: self._num_local].tolist()
        pairs_R = pairs[: sum(counts_e)]
        handle = AllGatherHandle(routing, pairs_R, all_weights.index_select(0, pairs_R), longest)
        return take_rows(all_x, pairs_R, top_k), counts_e, handle

    def combine(self, rows_RD: torch.Tensor, handle: Handle) -> torch.Tensor:
        """See `Dispatch.combine`.

        Two numbers add up to the same in either order, so with a top-k of 2 or less the partial sums may be formed
        where the experts are. Beyond, each of the K results keeps a place of its own until it is home.
        """
        assert isinstance(handle, AllGatherHandle)
        tokens, top_k = handle.routing.expert_ids_TK.shape
        slots = 1 if top_k <= 2 else top_k
        all_pairs = self._collectives.size * handle.tokens_per_rank * top_k
        weighted_RD = rows_RD.float() * handle.weights_R[:, None]
        by_pair = weighted_RD.new_zeros(all_pairs, rows_RD.shape[1]).index_copy(0, handle.pairs_R, weighted_RD)
        partial = by_pair.view(self._collectives.size, handle.tokens_per_rank, slots, top_k // slots, rows_RD.shape[1]).sum(3)
        mine_TSD = scatter_sum(self._collectives, partial)[:tokens]
        total_TD = mine_TSD[:, 0]
        for slot in range(1, slots):
            total_TD = total_TD + mine_TSD[:, slot]
        return total_TD.to(rows_RD.dtype)
