"""How long the exchange of a layer's rows and its experts take: predicted, in seconds. Pure data and functions.

All ranks wait for the slowest rank, node or link, so of each part the greatest counts:

    experts  = max over ranks of the sum over its experts of expert_seconds(rows)
    way      = max over ranks of max(out, in) within its node * row_bytes / node_bandwidth
             + max over nodes of max(out, in) * row_bytes / network_bandwidth
    dispatch = way + messages there * latency
    combine  = way + messages back * latency

Links are full duplex: what goes out does not slow down what comes in. The ranks of a node share its link to the
others; those of one node do not disturb each other. The latency is the network's when there is more than one node.
Where every rank holds every expert nothing is sent, and no message either. All-gather's first message has room for 8
tokens, which it sends in any case.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from mixtralkit.dist.topology import Topology
from mixtralkit.moe.placement.plan import Placement
from mixtralkit.moe.placement.routes import OwnersWE, nearest_owners
from mixtralkit.moe.placement.traffic import Sent, link_rows, relayed, rows_sent, with_room

# Of each dispatch, the messages there and back: counts travel before rows that have no room of fixed size.
_MESSAGES = {
    "local": (0, 0),
    "collective": (2, 1),
    "all_gather": (1, 1),
    "hierarchical": (3, 2),
    "nccl": (2, 1),
    "peer": (1, 1),
}


@dataclass(frozen=True)
class Rates:
    """What the machines do: bytes a second, seconds a message, FLOP a second.

    `node_bandwidth` is that of one rank to the others of its node, `network_bandwidth` what leaves one node, shared by
    its ranks; `compute` and `weight_bandwidth` are those of one rank while all of them are busy.
    """

    node_bandwidth: float
    network_bandwidth: float
    node_latency: float
    network_latency: float
    compute: float
    weight_bandwidth: float


@dataclass(frozen=True)
class ExpertShape:
    """One SwiGLU expert of one layer: three matrices of `hidden` x `width`, together `weight_bytes` as they are kept.

    `row_bytes` is a row on the wire, and `top_k` how many rows a token has.
    """

    width: int
    hidden: int
    weight_bytes: int
    row_bytes: int
    top_k: int

    @property
    def flops_a_row(self) -> int:
        """A multiplication and an addition for each weight."""
        return 6 * self.width * self.hidden

    @property
    def sums_meet_anywhere(self) -> bool:
        """Whether two results of a token may be added before they are home: float32 numbers, in either order."""
        return self.top_k == 2 and self.row_bytes == 4 * self.width


@dataclass(frozen=True)
class StepTime:
    """Seconds of a layer's parts, one after the other."""

    dispatch: float
    experts: float
    combine: float

    @property
    def total(self) -> float:
        """Without any overlap."""
        return self.dispatch + self.experts + self.combine


def expert_seconds(rows: float, rates: Rates, shape: ExpertShape) -> float:
    """One rank's time for `rows` rows of one expert: reading its weights or computing, whichever takes longer.

    `rows` may be an average over steps: with less than one row, the weights are read in that share of the steps.
    """
    return max(
        min(rows, 1.0) * shape.weight_bytes / rates.weight_bandwidth,
        rows * shape.flops_a_row / rates.compute,
    )


def layer_time(
    demand_WE: Sequence[Sequence[float]],
    placement: Placement,
    topology: Topology,
    rates: Rates,
    shape: ExpertShape,
    dispatch: str = "collective",
) -> StepTime:
    """One step of one layer in which each rank has `demand_WE[rank][expert]` rows, sent to their nearest owners.

    That peer works within one host only is not looked at: nodes may be what the user takes for them.
    """
    owner_WE = nearest_owners(placement, topology, demand_WE)
    experts = max(_experts_seconds(demand_WE, owner_WE, rates, shape))
    if all(set(owner_E) == {rank} for rank, owner_E in enumerate(owner_WE)):
        return StepTime(0.0, experts, 0.0)
    if dispatch == "hierarchical":
        out, sent = relayed(demand_WE, owner_WE, topology, shape.top_k, summed=shape.sums_meet_anywhere)
    else:
        sent = rows_sent(demand_WE, owner_WE, dispatch, shape.top_k)
        out = with_room(sent) if dispatch == "all_gather" else sent
    latency = rates.network_latency if topology.num_nodes > 1 else rates.node_latency
    there, back = _MESSAGES[dispatch]
    return StepTime(
        _way(out, topology, rates, shape) + there * latency,
        experts,
        _way(sent, topology, rates, shape) + back * latency,
    )


def _way(sent: Sequence[Sent], topology: Topology, rates: Rates, shape: ExpertShape) -> float:
    """Seconds that rows take over the busiest links."""
    within, between = link_rows(sent, topology)
    return shape.row_bytes * (max(within) / rates.node_bandwidth + max(between) / rates.network_bandwidth)


def overlapped_time(
    demand_WE: Sequence[Sequence[float]],
    placement: Placement,
    topology: Topology,
    rates: Rates,
    shape: ExpertShape,
    dispatch: str = "collective",
    *,
    chunks: int,
) -> float:
    """Seconds when the rows go in `chunks` equal parts: two are on the way while one is computed.

    One part is dispatched at a time, or its results are brought back: part i+1 goes before the results of part i. Each
    part has messages of its own and reads the weights of the experts that it has rows for. One part is `layer_time`.
    """
    part_WE = [[rows / chunks for rows in demand_E] for demand_E in demand_WE]
    part = layer_time(part_WE, placement, topology, rates, shape, dispatch)
    link_free = arrived = part.dispatch
    computed = 0.0
    for index in range(chunks):
        computed = max(arrived, computed) + part.experts
        if index + 1 < chunks:
            link_free = arrived = link_free + part.dispatch
        link_free = max(link_free, computed) + part.combine
    return link_free


def _experts_seconds(
    demand_WE: Sequence[Sequence[float]], owner_WE: OwnersWE, rates: Rates, shape: ExpertShape
) -> list[float]:
    """Of each rank, for all its experts."""
    rows: defaultdict[tuple[int, int], float] = defaultdict(float)
    for demand_E, owner_E in zip(demand_WE, owner_WE, strict=True):
        for expert, (demand, owner) in enumerate(zip(demand_E, owner_E, strict=True)):
            rows[owner, expert] += demand
    seconds = [0.0] * len(demand_WE)
    for (rank, _), count in rows.items():
        seconds[rank] += expert_seconds(count, rates, shape)
    return seconds
