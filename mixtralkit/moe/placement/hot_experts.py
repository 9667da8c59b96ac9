"""Hot experts: those that the policy replicates, on all ranks or once on each node. Pure functions."""

from collections.abc import Iterable, Sequence
from typing import Literal

from mixtralkit.dist.topology import Topology
from mixtralkit.errors import UsageError
from mixtralkit.moe.placement.plan import Placement

Scope = Literal["rank", "node"]
HotInLayer = tuple[int | None, tuple[int, ...]]  # a layer, or None for all of them, and its hot experts


def replicate(placement: Placement, experts: Iterable[int], topology: Topology, scope: Scope = "rank") -> Placement:
    """`placement` with each of `experts` on all ranks, or with one copy at least on each node.

    A node's copy goes to the rank there that holds the fewest experts so far, and of these the lowest. Raises
    `UsageError` for an expert that there is none of.
    """
    for expert in sorted(set(experts)):
        if not 0 <= expert < placement.num_experts:
            raise UsageError(
                f"there is no expert {expert} to replicate; a layer has experts 0 to {placement.num_experts - 1}"
            )
        for rank in _ranks_without(placement, expert, topology, scope):
            placement = placement.with_replica(expert, rank)
    return placement


def replicate_in_layers(
    placements: Sequence[Placement], hot: Iterable[HotInLayer], topology: Topology, scope: Scope = "rank"
) -> tuple[Placement, ...]:
    """`placements`, one a layer, with the `hot` experts replicated as `replicate` has it.

    Raises `UsageError` for a layer or an expert that there is none of.
    """
    grown = list(placements)
    for only, experts in hot:
        if only is not None and not 0 <= only < len(grown):
            raise UsageError(f"there is no layer {only}; the model has layers 0 to {len(grown) - 1}")
        for layer in range(len(grown)) if only is None else (only,):
            grown[layer] = replicate(grown[layer], experts, topology, scope)
    return tuple(grown)


def _ranks_without(placement: Placement, expert: int, topology: Topology, scope: Scope) -> list[int]:
    """The ranks that are to have a replica and have none yet."""
    owners = placement.owners_of(expert)
    if scope == "rank":
        return [rank for rank in range(placement.world_size) if rank not in owners]
    served = {topology.node_of_rank[owner] for owner in owners}
    return [
        min(topology.ranks_of_node(node), key=lambda rank: (len(placement.experts_of(rank)), rank))
        for node in range(topology.num_nodes)
        if node not in served
    ]
