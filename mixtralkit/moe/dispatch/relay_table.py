"""What follows for every message from who takes a token for its node. Pure, and on the host.

Of each node one rank, the relay, takes a source's tokens for the experts of that node, every token once, and hands
their rows on to the ranks that hold the experts. For its own node a rank is the relay itself: its tokens lie behind
those that came. Who sends how much to whom, and in which order it arrives, follows from two tables that all ranks know:
`counts_WE`, the rows that each rank has for each expert, and `copies_WM`, the tokens that it has for each other node.
"""

from dataclasses import dataclass
from itertools import product

import torch

from mixtralkit.moe.placement.relays import relays
from mixtralkit.moe.placement.routes import Routes


@dataclass(frozen=True)
class Hops:
    """The messages of one call, as tokens or rows to and from each rank.

    Tokens go to the relays (`copies_out`) and come to this one (`copies_in`), which hands their rows on (`rows_out`),
    as others do with those for its own experts (`rows_in`, `counts_e` for each). Results go the same ways back; from a
    relay to the sources one for each row (`results_out`, `results_in`), where they are not summed before. The i-th of
    the sorted rows arrived at the place `arrival_R[i]`, and the i-th that arrived is at `sorted_R[i]` among them; the
    i-th of the results that this relay sends to sources is that of the row `by_source_P[i]` that it handed on.
    """

    copies_out: list[int]
    copies_in: list[int]
    rows_out: list[int]
    rows_in: list[int]
    results_out: list[int]
    results_in: list[int]
    counts_e: list[int]
    arrival_R: torch.Tensor
    sorted_R: torch.Tensor
    by_source_P: torch.Tensor


class RelayTable:
    """What `routes` say of the ways over relays, as the rank of the routes needs it.

    `node_E` is where this rank's rows of each expert go; `order_M` has the other nodes by their relay, and `order_E`
    the experts by relay, owner and number: so this rank's tokens leave, and so its results come home. `slot_WE[w][e]`
    is the place of rank w's rows of expert e among what this relay hands on, `num_slots` where that is not for it.
    """

    def __init__(self, routes: Routes) -> None:
        topology, self._rank, ranks = routes.topology, routes.rank, range(routes.world_size)
        node = topology.node_of_rank[routes.rank]
        node_ranks = topology.ranks_of_node(node)
        relay_WM = relays(topology)
        relay_M, relay_W = relay_WM[routes.rank], [relay_WM[rank][node] for rank in ranks]
        nodes_E = [topology.node_of_rank[owner] for owner in routes.owner_E]
        ways = {e: (relay_M[at], owner, e) for e, (at, owner) in enumerate(zip(nodes_E, routes.owner_E, strict=True))}
        slots = [(owner, expert) for owner in node_ranks for expert in routes.placement.experts_of(owner)]
        slot_of = {slot: place for place, slot in enumerate(slots)}
        self.node_E = torch.tensor(nodes_E)
        self.order_M = sorted((m for m in range(topology.num_nodes) if m != node), key=relay_M.__getitem__)
        self.order_E = sorted(ways, key=ways.__getitem__)
        self.num_slots = len(slots)
        self.slot_WE = torch.tensor(
            [[slot_of.get((owner, e), len(slots)) for e, owner in enumerate(o)] for o in routes.owner_WE]
        )
        self._node = node
        self._relay_M, self._relay_W = torch.tensor(relay_M), torch.tensor(relay_W)
        self._owner_WE = torch.tensor(routes.owner_WE)
        self._local_e = torch.tensor(routes.local_experts, dtype=torch.int64)
        own_last = {relay: [*(s for s in ranks if relay_W[s] == relay != s), relay] for relay in node_ranks}
        handed = [(source, e, owner) for (owner, e), source in product(slots, own_last[routes.rank])]
        self._handed_B3 = torch.tensor(handed, dtype=torch.int64).view(-1, 3)
        arriving = [(s, e, routes.rank) for r in node_ranks for e, s in product(routes.local_experts, own_last[r])]
        self._arriving_B3 = torch.tensor(arriving, dtype=torch.int64).view(-1, 3)

    def hops(self, counts_WE: torch.Tensor, copies_WM: torch.Tensor) -> Hops:
        """The messages of a call in which each rank has these rows and tokens."""
        handed_B, arriving_B = (self._counts(blocks, counts_WE) for blocks in (self._handed_B3, self._arriving_B3))
        handed_from_B, _, handed_to_B = self._handed_B3.unbind(1)
        arriving_from_B, arriving_expert_B, _ = self._arriving_B3.unbind(1)
        experts, ranks = counts_WE.shape[1], len(counts_WE)
        comes_W = self._relay_W == self._rank
        arrival_R = _sorted_places(arriving_expert_B * ranks + arriving_from_B, arriving_B)
        return Hops(
            copies_out=_totals(self._relay_M, copies_WM[self._rank], ranks).tolist(),
            copies_in=(copies_WM[:, self._node] * comes_W).tolist(),
            rows_out=_totals(handed_to_B, handed_B, ranks).tolist(),
            rows_in=_totals(self._relay_W[arriving_from_B], arriving_B, ranks).tolist(),
            results_out=_totals(handed_from_B, handed_B, ranks).tolist(),
            results_in=_totals(self._relay_M[self.node_E], counts_WE[self._rank], ranks).tolist(),
            counts_e=_totals(arriving_expert_B, arriving_B, experts)[self._local_e].tolist(),
            arrival_R=arrival_R,
            sorted_R=torch.argsort(arrival_R),
            by_source_P=_sorted_places(handed_from_B, handed_B),
        )

    def _counts(self, blocks_B3: torch.Tensor, counts_WE: torch.Tensor) -> torch.Tensor:
        """How many rows each (source, expert, owner) has."""
        source_B, expert_B, owner_B = blocks_B3.unbind(1)
        return counts_WE[source_B, expert_B] * (self._owner_WE[source_B, expert_B] == owner_B)


def _totals(places_B: torch.Tensor, counts_B: torch.Tensor, size: int) -> torch.Tensor:
    """The sum of the counts of each place."""
    return torch.zeros(size, dtype=torch.int64).index_add_(0, places_B, counts_B)


def _sorted_places(keys_B: torch.Tensor, counts_B: torch.Tensor) -> torch.Tensor:
    """Of rows that lie in blocks: their places in the order of the blocks' keys, within a key as they lie."""
    return torch.argsort(keys_B.repeat_interleave(counts_B), stable=True)
