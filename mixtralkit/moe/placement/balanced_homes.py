"""Homes for experts by how much each has to do, for placements that are decided before a run. Pure functions."""

from collections.abc import Sequence

from mixtralkit.moe.placement.plan import Placement


def balanced_homes(load_E: Sequence[float], world_size: int) -> Placement:
    """Each expert on one rank: about equal loads, and numbers of experts that differ by at most one.

    The heaviest expert comes first, and goes to the rank that has least to do and room (longest processing time first).
    With more ranks than experts, each further rank holds a replica of the expert with the most load a copy.
    """
    num_experts = len(load_E)
    held: list[list[int]] = [[] for _ in range(world_size)]
    load_W = [0.0] * world_size
    for expert in sorted(range(num_experts), key=lambda expert: (-load_E[expert], expert)):
        rank = min(_with_room(held, num_experts), key=lambda rank: (load_W[rank], rank))
        held[rank].append(expert)
        load_W[rank] += load_E[expert]
    copies_E = [1] * num_experts
    for experts in held[num_experts:]:
        expert = max(range(num_experts), key=lambda expert: (load_E[expert] / copies_E[expert], -copies_E[expert]))
        experts.append(expert)
        copies_E[expert] += 1
    return Placement(num_experts, tuple(tuple(sorted(experts)) for experts in held))


def _with_room(held: Sequence[Sequence[int]], num_experts: int) -> list[int]:
    """The ranks that may take one more; as many as the division leaves over may have one more than the others."""
    share, extra = divmod(num_experts, len(held))
    larger = sum(len(experts) > share for experts in held)
    return [rank for rank, experts in enumerate(held) if len(experts) < share + (larger < extra)]
