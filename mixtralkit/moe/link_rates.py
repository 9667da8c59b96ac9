"""How fast rows travel between ranks and how fast their experts compute, measured at the start with real exchanges.

All ranks measure at the same time, as they work.
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
ENOUGH_COMPUTING = 0.1  # seconds
_A_FEW_BYTES, _FIRST_BYTES, _MOST_BYTES = 64, 64 << 10, 16 << 20  # to each rank
_FEW_ROWS, _MANY_ROWS = 1, 64
_ROUNDS = 20
_NO_LINK = [math.inf, 0.0]

Exchange = Callable[[Sequence[int], int], None]  # sends each of these ranks so many bytes, and gets as many from each


def measure_rates(
    exchange: Exchange, collectives: Collectives, topology: Topology, layers: Sequence[Experts], shape: ExpertShape
) -> Rates:
    """The same on every rank: of each, what the slowest has. All ranks call this together.

    `exchange` is how the dispatch in use moves bytes; `layers` are the experts that this rank holds of each layer.
    """
    node = topology.node_of_rank[collectives.rank]
    near = [rank for rank in topology.ranks_of_node(node) if rank != collectives.rank]
    far = [rank for rank in range(collectives.size) if topology.node_of_rank[rank] != node]
    mine = {
        "node": _link(exchange, collectives, near),
        "network": _link(exchange, collectives, far),
        "experts": _compute(layers, shape, collectives),
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
def _compute(layers: Sequence[Experts], shape: ExpertShape, collectives: Collectives) -> list[float]:
    """FLOP a second with many rows an expert, and bytes of weights a second with few."""
    layers = [experts for experts in layers if len(list(experts.children()))]
    counts = [len(list(experts.children())) for experts in layers]
    few, many = (_seconds_an_expert(layers, counts, rows, shape, collectives) for rows in (_FEW_ROWS, _MANY_ROWS))
    if not sum(counts):
        return [math.inf, math.inf]
    return [_MANY_ROWS * shape.flops_a_row / many, shape.weight_bytes / few]


def _seconds_an_expert(
    layers: Sequence[Experts], counts: Sequence[int], rows: int, shape: ExpertShape, collectives: Collectives
) -> float:
    """Of `rows` rows each, layer after layer as in a step, so that no weights are in the caches from before.

    A first pass brings them into memory. In the second all ranks are busy at the same time, as they are in a step.
    """
    device = collectives.device
    collectives.all_gather_json(None)
    reached = 0
    begin = time.perf_counter()
    for experts, count in zip(layers, counts, strict=True):
        experts(torch.ones(rows * count, shape.width, device=device), [rows] * count)
        reached += 1
        if time.perf_counter() - begin > ENOUGH_COMPUTING:
            break
    collectives.all_gather_json(None)
    begin = time.perf_counter()
    for experts, count in zip(layers[:reached], counts, strict=False):
        experts(torch.ones(rows * count, shape.width, device=device), [rows] * count)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - begin) / max(sum(counts[:reached]), 1)
