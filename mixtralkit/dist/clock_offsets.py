"""By how much the ranks' clocks differ from rank 0's, with a bound on the error.

The ranks meet some times, and each notes its time.perf_counter() before and after. No rank leaves a meeting before the
last has come to it, so that moment lies between the two on every clock: rank r's clock is ahead of rank 0's by no less
than its "before" less rank 0's "after", and no more than its "after" less rank 0's "before". The meetings with the
least spread decide. Ranks of one host have one clock.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology

MEETINGS = 16
Times = Sequence[Sequence[float]]  # [meeting][before, after]


@dataclass(frozen=True)
class ClockOffset:
    """How far a clock is ahead of rank 0's, in seconds, give or take `error`."""

    seconds: float
    error: float


def clock_offsets(control: Collectives, topology: Topology) -> list[ClockOffset]:
    """Of each rank, the same on all; `topology` says who is on which host. All ranks call it together."""
    times = []
    for _ in range(MEETINGS):
        before = time.perf_counter()
        control.all_gather(torch.zeros(1, dtype=torch.uint8, device=control.device)).cpu()
        times.append((before, time.perf_counter()))
    return offsets_from(control.all_gather_json(times), topology)


def offsets_from(times_W: Sequence[Times], topology: Topology) -> list[ClockOffset]:
    """The offsets, given what each rank noted."""
    bounds = [_bounds(times, times_W[0]) for times in times_W]
    of_node = [_offset([bounds[rank] for rank in topology.ranks_of_node(node)]) for node in range(topology.num_nodes)]
    same = topology.node_of_rank[0]
    return [ClockOffset(0.0, 0.0) if node == same else of_node[node] for node in topology.node_of_rank]


def _bounds(times: Times, times_0: Times) -> tuple[float, float]:
    """The least and the most that a clock can be ahead of rank 0's."""
    pairs = list(zip(times, times_0, strict=True))
    return max(mine[0] - other[1] for mine, other in pairs), min(mine[1] - other[0] for mine, other in pairs)


def _offset(bounds: Sequence[tuple[float, float]]) -> ClockOffset:
    least, most = max(low for low, _ in bounds), min(high for _, high in bounds)
    return ClockOffset((least + most) / 2, (most - least) / 2)
