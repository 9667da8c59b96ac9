"""Every rank gets every token, computes what its experts have to say, and the answers are summed on the way back.

Two messages for a small batch where an all-to-all takes three, but each token travels to every rank: right for
small batches.
"""

from dataclasses import dataclass

import torch

from mixtralkit.dist.collectives import Collectives, exchange_rows
from mixtralkit.moe.dispatch.base import Handle
from mixtralkit.moe.dispatch.over_collectives import OverCollectives
from mixtralkit.moe.dispatch.token_gather import GatheredTokens, gather_tokens
from mixtralkit.moe.placement.routes import Routes
from mixtralkit.moe.routing import Routing
from mixtralkit.ops.expert_sort import expert_sort
from mixtralkit.ops.permute import take_rows


@dataclass(frozen=True)
class AllGatherHandle(Handle):
    """`pairs_R[i]` is the flat (token, k) pair, over the tokens of all ranks, of row i, and `weights_R[i]` its weight;
    `counts[r]` is how many tokens rank r has.
    """

    pairs_R: torch.Tensor
    weights_R: torch.Tensor
    counts: list[int]


class AllGatherDispatch(OverCollectives):
    """All-gather of tokens and routing, reduce-scatter of results."""

    name = "all_gather"

    def __init__(self, collectives: Collectives, routes: Routes) -> None:
        super().__init__(collectives, routes)
        mine, num_experts = routes.local_experts, routes.placement.num_experts
        others = [expert for expert in range(num_experts) if expert not in mine]
        self._num_local = len(mine)
        # Behind all experts comes one that nobody has, for the rows that another owner of their expert computes.
        self._local_first = torch.tensor([*mine, *others, num_experts], device=collectives.device)
        table = [[e if owner == routes.rank else num_experts for e, owner in enumerate(o)] for o in routes.owner_WE]
        self._mine_WE = torch.tensor(table, device=collectives.device)
        self._one_owner_each = routes.placement.num_copies == num_experts

    def dispatch(self, x_TD: torch.Tensor, routing: Routing) -> tuple[torch.Tensor, list[int], AllGatherHandle]:
        """See `Dispatch.dispatch`. Waits for counts on the host twice."""
        gathered = gather_tokens(self._collectives, x_TD, routing)
        pairs_N, counts_E = expert_sort(self._experts_AK(gathered), self._local_first)
        counts_e = counts_E[: self._num_local].tolist()
        pairs_R = pairs_N[: sum(counts_e)]
        weights_R = gathered.weights_AK.flatten().index_select(0, pairs_R)
        rows_RD = take_rows(gathered.x_AD, pairs_R, routing.expert_ids_TK.shape[1])
        return rows_RD, counts_e, AllGatherHandle(routing, pairs_R, weights_R, gathered.counts)

    def _experts_AK(self, gathered: GatheredTokens) -> torch.Tensor:
        """The expert of each row; the one that nobody has, where this rank holds it and is not to compute the row."""
        if self._one_owner_each:  # nothing to look up, which takes 22 us and more
            return gathered.expert_ids_AK
        device = gathered.expert_ids_AK.device
        ranks = torch.arange(len(gathered.counts), device=device)
        source_A = ranks.repeat_interleave(torch.tensor(gathered.counts, device=device))
        return self._mine_WE[source_A[:, None], gathered.expert_ids_AK]

    def combine(self, rows_RD: torch.Tensor, handle: Handle) -> torch.Tensor:
        """See `Dispatch.combine`.

        Two numbers add up to the same in either order, and zeros change nothing, so with a top-k of 2 or less partial
        sums may be formed where the experts are. Beyond, each of the K results keeps its own place until it is home.
        """
        assert isinstance(handle, AllGatherHandle)
        (tokens, top_k), width = handle.routing.expert_ids_TK.shape, rows_RD.shape[1]
        places = 1 if top_k <= 2 else top_k
        weighted_RD = rows_RD.float() * handle.weights_R[:, None]
        by_pair = weighted_RD.new_zeros(sum(handle.counts) * top_k, width).index_copy(0, handle.pairs_R, weighted_RD)
        partial = by_pair.view(sum(handle.counts), places, top_k // places, width).sum(2).flatten(1)
        arrived = exchange_rows(self._collectives, partial, handle.counts, [tokens] * self._collectives.size)
        results_TKD = arrived.view(self._collectives.size, tokens, places, width).sum(0)
        total_TD = results_TKD[:, 0]
        for place in range(1, places):
            total_TD = total_TD + results_TKD[:, place]
        return total_TD.to(rows_RD.dtype)
