"""How fast rows travel between ranks and how fast their experts compute, measured at the start with real exchanges.

All ranks measure at the same time, as they work. A second run of each is the one that counts.
"""

import math
import time
from collections.abc import Callable, Sequence

import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology
from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.experts import Experts
from mixtralkit.moe.placement.cost import ExpertShape, Rates
from mixtralkit.moe.placement.routes import Routes
from mixtralkit.moe.routing import Routing

LONG_ENOUGH = 0.04  # seconds: an exchange that takes so long tells the bandwidth
_A_FEW_BYTES, _FIRST_BYTES, _MOST_BYTES = 64, 64 << 10, 16 << 20  # to each rank
_FEW_ROWS, _MANY_ROWS = 1, 64
_ROUNDS = 20
_NO_LINK = [math.inf, 0.0]

Exchange = Callable[[Sequence[int], int], None]  # sends each of these ranks so many bytes, and gets as many from each


def measure_rates(
    exchange: Exchange, collectives: Collectives, topology: Topology, experts: Experts, shape: ExpertShape
) -> Rates:
    """The same on every rank: of each, what the slowest has. All ranks call this together.

    `exchange` is how the dispatch in use moves bytes; `experts` are this rank's of some layer.
    """
    node = topology.node_of_rank[collectives.rank]
    near = [rank for rank in topology.ranks_of_node(node) if rank != collectives.rank]
    far = [rank for rank in range(collectives.size) if topology.node_of_rank[rank] != node]
    mine = {
        "node": _link(exchange, collectives, near),
        "network": _link(exchange, collectives, far),
        "experts": _compute(experts, shape, collectives.device),
    }
    told = collectives.all_gather_json(mine)
    node_bandwidth, node_latency = _slowest(told, "node")
    network_bandwidth, network_latency = _slowest(told, "network")
    # All ranks of a node sent at once, through the one link that they share.
    sharing = min(len(topology.ranks_of_node(node)) for node in range(topology.num_nodes))
    return Rates(
        node_bandwidth=node_bandwidth,
        network_bandwidth=network_bandwidth * sharing,
        node_latency=node_latency,
        network_latency=network_latency,
        compute=min(rank["experts"][0] for rank in told),
        weight_bandwidth=min(rank["experts"][1] for rank in told),
    )


def exchange_over(collectives: Collectives) -> Exchange:
    """By the collectives' all-to-all."""

    def exchange(peers: Sequence[int], nbytes: int) -> None:
        counts = [nbytes if rank in peers else 0 for rank in range(collectives.size)]
        rows = torch.zeros(sum(counts), 1, dtype=torch.uint8, device=collectives.device)
        collectives.all_to_all(rows, counts, counts)

    return exchange


def exchange_by(dispatch: Dispatch, routes: Routes, width: int) -> Exchange:
    """By a dispatch of float32 rows of that width, to an expert of each rank.

    No rows go to a rank whose experts are all nearer elsewhere: its share goes to the others.
    """
    expert_at = {owner: expert for expert, owner in enumerate(routes.owner_E)}

    def exchange(peers: Sequence[int], nbytes: int) -> None:
        ids_T = torch.tensor([expert_at[rank] for rank in peers if rank in expert_at], dtype=torch.int64)
        rows_each = nbytes * len(peers) // (4 * width * max(len(ids_T), 1))
        ids_T1 = ids_T.repeat_interleave(rows_each)[:, None]
        dispatch.dispatch(torch.zeros(len(ids_T1), width), Routing(ids_T1, torch.ones(ids_T1.shape)))

    return exchange


def _slowest(told: Sequence[dict[str, list[float]]], link: str) -> tuple[float, float]:
    """The least bandwidth and the greatest latency of a kind of link."""
    return min(rank[link][0] for rank in told), max(rank[link][1] for rank in told)


def _link(exchange: Exchange, collectives: Collectives, peers: Sequence[int]) -> list[float]:
    """Bytes a second out of this rank, and seconds of a message. Without peers it takes part with nothing to send."""
    most_peers = int(collectives.all_gather(torch.tensor([len(peers)], device=collectives.device)).max())
    if not most_peers:
        return _NO_LINK
    latency = _seconds(exchange, collectives, peers, _A_FEW_BYTES)
    nbytes = _FIRST_BYTES
    seconds = _seconds(exchange, collectives, peers, nbytes)
    while seconds < LONG_ENOUGH and nbytes < _MOST_BYTES:
        nbytes *= 4
        seconds = _seconds(exchange, collectives, peers, nbytes)
    # The latency may have been taken in a worse moment: the rest is not let become nothing.
    return [most_peers * nbytes / max(seconds - latency, seconds / 2), latency]


def _seconds(exchange: Exchange, collectives: Collectives, peers: Sequence[int], nbytes: int) -> float:
    """Of the fastest of some exchanges, on the slowest rank: so that all ranks go on alike."""
    times = []
    for _ in range(_ROUNDS if nbytes == _A_FEW_BYTES else 2):
        begin = time.perf_counter()
        exchange(peers, nbytes)
        if collectives.device.type == "cuda":
            torch.cuda.synchronize(collectives.device)
        times.append(time.perf_counter() - begin)
    return float(max(collectives.all_gather_json(min(times))))


@torch.inference_mode()
def _compute(experts: Experts, shape: ExpertShape, device: torch.device) -> list[float]:
    """FLOP a second with many rows an expert, and bytes of weights a second with few."""
    count = len(list(experts.children()))
    if not count:
        return [math.inf, math.inf]
    few, many = (_expert_seconds(experts, rows, shape, count, device) for rows in (_FEW_ROWS, _MANY_ROWS))
    return [count * _MANY_ROWS * shape.flops_a_row / many, count * shape.weight_bytes / few]


def _expert_seconds(experts: Experts, rows: int, shape: ExpertShape, count: int, device: torch.device) -> float:
    x_RD = torch.ones(rows * count, shape.width, device=device)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        experts(x_RD, [rows] * count)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begin)
    return min(times[1:])
