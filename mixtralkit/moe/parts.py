"""A layer's rows cut into parts that travel and are computed one after the other.

All ranks cut alike, into the same number of parts; a part may be empty. What comes out has the same bits as without
cutting: a row's result does not depend on the rows beside it, and a token's sum is formed in the order of its top-k.
"""

from dataclasses import dataclass

import torch

from mixtralkit.moe.placement.routes import Routes
from mixtralkit.moe.routing import Routing
from mixtralkit.ops.permute import sum_rows, take_rows


@dataclass(frozen=True)
class Parts:
    """Tokens and their routing, part after part. `pairs_N` are the flat (token, k) pairs of parts made of rows."""

    x: tuple[torch.Tensor, ...]
    routing: tuple[Routing, ...]
    whole: Routing
    pairs_N: torch.Tensor | None = None

    def join(self, results: list[torch.Tensor]) -> torch.Tensor:
        """The results of all parts, `[T, D]`."""
        joined = torch.cat(results)
        return joined if self.pairs_N is None else sum_rows(joined, self.pairs_N, self.whole.weights_TK)


def token_chunks(x_TD: torch.Tensor, routing: Routing, count: int) -> Parts:
    """`count` chunks of neighbouring tokens."""
    ids, weights = (tensor.tensor_split(count) for tensor in (routing.expert_ids_TK, routing.weights_TK))
    return Parts(x_TD.tensor_split(count), tuple(map(Routing, ids, weights)), routing)


def rank_groups(x_TD: torch.Tensor, routing: Routing, routes: Routes, group_size: int) -> Parts:
    """The rows for this rank's group of `group_size` ranks, then those for the next group, and so on round the ranks.

    Ranks 0 to `group_size` - 1 are the first group. As FasterMoE's smart schedule has it (PPoPP 2022, section 4.2): in
    every stage a group sends to one group and receives from one.
    """
    groups = -(-routes.world_size // group_size)
    stage_E = torch.tensor([(owner // group_size - routes.rank // group_size) % groups for owner in routes.owner_E])
    stage_N = stage_E.to(x_TD.device)[routing.expert_ids_TK.flatten()]
    pairs_N = torch.argsort(stage_N, stable=True)
    counts = torch.bincount(stage_N, minlength=groups).tolist()
    x_ND = take_rows(x_TD, pairs_N, routing.expert_ids_TK.shape[1])
    ids_N1 = routing.expert_ids_TK.flatten()[pairs_N, None]
    ones = [torch.ones(count, 1, device=x_TD.device) for count in counts]
    return Parts(x_ND.split(counts), tuple(map(Routing, ids_N1.split(counts), ones)), routing, pairs_N)
