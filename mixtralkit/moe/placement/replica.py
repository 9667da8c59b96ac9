"""Replicas: the copies of experts that a placement has beyond the experts' homes. Pure data and functions."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mixtralkit.moe.placement.plan import Placement


class Replica(NamedTuple):
    """A further copy of one layer's expert on a rank; in the order of layers, experts and ranks."""

    layer: int
    expert: int
    rank: int


def replicas_beyond(homes: Sequence[Placement], placements: Sequence[Placement]) -> set[Replica]:
    """What `placements` hold and `homes` do not; both have one entry a layer."""
    return {
        Replica(layer, expert, rank)
        for layer, (home, placement) in enumerate(zip(homes, placements, strict=True))
        for rank, experts in enumerate(placement.experts_of_rank)
        for expert in set(experts) - set(home.experts_of(rank))
    }


def with_replicas(homes: Sequence[Placement], replicas: Iterable[Replica]) -> tuple[Placement, ...]:
    """`homes`, one a layer, and `replicas`."""
    placements = list(homes)
    for layer, expert, rank in replicas:
        placements[layer] = placements[layer].with_replica(expert, rank)
    return tuple(placements)
