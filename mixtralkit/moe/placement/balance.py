"""What a placement makes of a layer's load: how evenly the ranks work, and how much travels. No communication."""

from collections.abc import Sequence
from dataclasses import dataclass

from mixtralkit.dist.topology import Topology
from mixtralkit.moe.placement.plan import Placement
from mixtralkit.moe.placement.routes import nearest_owners
from mixtralkit.moe.placement.traffic import link_rows, rows_of_ranks, rows_sent


@dataclass(frozen=True)
class Balance:
    """The rows that each rank computes, and those that leave the rank, or even the node, of their token."""

    rows_W: tuple[float, ...]
    leaving_rank: float
    leaving_node: float


def balance_of(demand_WE: Sequence[Sequence[float]], placement: Placement, topology: Topology) -> Balance:
    """Where the rows of one layer go: the `demand_WE[w][e]` of rank w for expert e to the nearest owner."""
    owner_WE = nearest_owners(placement, topology, demand_WE)
    sent = rows_sent(demand_WE, owner_WE, "collective", top_k=1)  # row by row, whichever token they are of
    _, between = link_rows(sent, topology)
    leaving_rank = sum(rows for _, _, rows in sent)
    return Balance(tuple(rows_of_ranks(demand_WE, owner_WE)), leaving_rank, sum(between[: topology.num_nodes]))


def busiest_over_mean(rows: Sequence[float]) -> float:
    """How many times the mean the largest is: 1 is even, their number is the worst. 1 without rows."""
    total = sum(rows)
    return max(rows) * len(rows) / total if total else 1.0
