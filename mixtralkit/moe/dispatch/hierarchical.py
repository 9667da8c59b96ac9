"""A token goes to another node once, however many of its experts are there, and is handed on inside that node.

For several nodes with several ranks each, where links between nodes are slower than those within. Five messages where
an all-to-all takes three, and fewer bytes between nodes. See relay_table.py for who sends what to whom.
"""

from dataclasses import dataclass

import torch

from mixtralkit.dist.collectives import Collectives, exchange_rows
from mixtralkit.moe.dispatch.agreement import gather_counts
from mixtralkit.moe.dispatch.base import Handle
from mixtralkit.moe.dispatch.node_exchange import send_tokens
from mixtralkit.moe.dispatch.over_collectives import OverCollectives
from mixtralkit.moe.dispatch.relay_table import Hops, RelayTable
from mixtralkit.moe.placement.routes import Routes
from mixtralkit.moe.routing import Routing
from mixtralkit.ops.expert_sort import expert_sort
from mixtralkit.ops.permute import sum_rows, take_rows


@dataclass(frozen=True)
class HierarchicalHandle(Handle):
    """At home: `pairs_N`, the flat (token, k) pairs in the order in which results come, and `tokens_C`, the token of
    each one sent to another node. At the relay: `pairs_P`, the flat (token, k) pair of each row handed on, and
    `weights_AK`, of the tokens that came and then of this rank's own.
    """

    hops: Hops
    pairs_N: torch.Tensor
    tokens_C: torch.Tensor
    pairs_P: torch.Tensor
    weights_AK: torch.Tensor


class HierarchicalDispatch(OverCollectives):
    """An all-to-all between the nodes and one inside each, both of exact counts, which travel first."""

    name = "hierarchical"

    def __init__(self, collectives: Collectives, routes: Routes) -> None:
        super().__init__(collectives, routes)
        self._table = table = RelayTable(routes)
        device, nodes = collectives.device, routes.topology.num_nodes
        own = routes.topology.node_of_rank[routes.rank]
        self._num_experts = routes.placement.num_experts
        self._others_M = torch.tensor([node if node != own else -1 for node in range(nodes)], device=device)
        self._node_E = table.node_E.to(device)
        self._slot_WE = table.slot_WE.to(device)
        self._order_E = torch.tensor(table.order_E, device=device)
        # Behind all nodes comes one that does not exist, for tokens that do not go to a node, and behind all slots one
        # for the rows that another node's relay hands on.
        self._order_M = torch.tensor([*table.order_M, own, nodes], device=device)
        self._order_S = torch.arange(table.num_slots + 1, device=device)

    def dispatch(self, x_TD: torch.Tensor, routing: Routing) -> tuple[torch.Tensor, list[int], HierarchicalHandle]:
        """See `Dispatch.dispatch`. Waits for the counts on the host once."""
        nodes, device = len(self._others_M), x_TD.device
        pairs_N, counts_E = _sorted(routing.expert_ids_TK, self._order_E)
        pairs_C, copies_M = _sorted(self._nodes_TM(routing), self._order_M)
        gathered = gather_counts(self._collectives, torch.cat((counts_E, copies_M[:nodes])), x_TD)
        hops = self._table.hops(*gathered.split([self._num_experts, nodes], dim=1))
        pairs_C = pairs_C[: sum(hops.copies_out)]
        tokens_C = pairs_C // nodes
        sent = Routing(routing.expert_ids_TK[tokens_C], routing.weights_TK[tokens_C])
        x_CD = take_rows(x_TD, pairs_C, nodes)
        came_AD, came = send_tokens(self._collectives, x_CD, sent, hops.copies_out, hops.copies_in)
        x_AD = torch.cat((came_AD, x_TD))
        ids_AK = torch.cat((came.expert_ids_TK, routing.expert_ids_TK))
        pairs_P = self._handed_on(ids_AK, hops)
        handed_PD = take_rows(x_AD, pairs_P, ids_AK.shape[1])
        arrived_RD = exchange_rows(self._collectives, handed_PD, hops.rows_out, hops.rows_in)
        weights_AK = torch.cat((came.weights_TK, routing.weights_TK))
        handle = HierarchicalHandle(routing, hops, pairs_N, tokens_C, pairs_P, weights_AK)
        return arrived_RD.index_select(0, hops.arrival_R.to(device)), hops.counts_e, handle

    def _nodes_TM(self, routing: Routing) -> torch.Tensor:
        """Node m in column m for a token that has an expert on that other node, else the node that does not exist."""
        nodes_TK = self._node_E[routing.expert_ids_TK]
        goes_TM = (nodes_TK[:, :, None] == self._others_M).any(1)
        return torch.where(goes_TM, self._others_M, len(self._others_M))

    def _handed_on(self, ids_AK: torch.Tensor, hops: Hops) -> torch.Tensor:
        """The flat (token, k) pairs, of the tokens that came and the own ones, for this node: by owner and expert."""
        rank = self._collectives.rank
        tokens_W = torch.tensor([*hops.copies_in, len(ids_AK) - sum(hops.copies_in)])
        source_A = torch.tensor([*range(len(hops.copies_in)), rank]).repeat_interleave(tokens_W)
        slots_AK = self._slot_WE[source_A.to(ids_AK.device)[:, None], ids_AK]
        return expert_sort(slots_AK, self._order_S)[0][: sum(hops.rows_out)]

    def combine(self, rows_RD: torch.Tensor, handle: Handle) -> torch.Tensor:
        """See `Dispatch.combine`.

        Two numbers add up to the same in either order, so float32 results of a top-k of 2 are summed at the relay, and
        one row for each token crosses. Others keep their own places until they are home.
        """
        assert isinstance(handle, HierarchicalHandle)
        hops, device = handle.hops, rows_RD.device
        arrived_RD = rows_RD.index_select(0, hops.sorted_R.to(device))
        back_PD = exchange_rows(self._collectives, arrived_RD, hops.rows_in, hops.rows_out)
        if rows_RD.dtype == torch.float32 and handle.routing.expert_ids_TK.shape[1] == 2:
            return self._add_sums(back_PD, handle)
        results_PD = back_PD.index_select(0, hops.by_source_P.to(device))
        home_ND = exchange_rows(self._collectives, results_PD, hops.results_out, hops.results_in)
        return sum_rows(home_ND, handle.pairs_N, handle.routing.weights_TK)

    def _add_sums(self, back_PD: torch.Tensor, handle: HierarchicalHandle) -> torch.Tensor:
        """Sum what this relay has of each token, weighted, and at home what the relays have."""
        hops, (tokens, top_k) = handle.hops, handle.weights_AK.shape
        weights_P = handle.weights_AK.flatten().index_select(0, handle.pairs_P)
        weighted_PD = back_PD * weights_P[:, None]
        sums_AD = back_PD.new_zeros(tokens, back_PD.shape[1]).index_add(0, handle.pairs_P // top_k, weighted_PD)
        theirs_AD, own_TD = sums_AD.tensor_split([sum(hops.copies_in)])
        home_CD = exchange_rows(self._collectives, theirs_AD, hops.copies_in, hops.copies_out)
        return own_TD.index_add(0, handle.tokens_C, home_CD)


def _sorted(ids_TK: torch.Tensor, order: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `expert_sort`, with the counts by id and not by the order."""
    pairs_N, counts = expert_sort(ids_TK, order)
    return pairs_N, torch.empty_like(counts).index_copy_(0, order, counts)
