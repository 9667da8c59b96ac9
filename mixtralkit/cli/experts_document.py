"""The load of a model's experts, and what placements make of it, as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mixtralkit import __version__
from mixtralkit.cli.experts_plan import Plan
from mixtralkit.dist.topology import Topology
from mixtralkit.moe.load_profile import LoadProfile
from mixtralkit.moe.placement.balance import balance_of, busiest_over_mean
from mixtralkit.moe.placement.plan import Placement, even_split, experts_held, same_for_all

EVEN = "even split"
PLAN = "plan"


def experts_document(profile: LoadProfile, topology: Topology, plan: Plan | None) -> dict[str, Any]:
    """The rows of experts, and of ranks with the even split and with `plan` on the ranks of `topology`."""
    model, world_size = profile.model, len(topology.node_of_rank)
    rows_LE = profile.rows_LE
    even = same_for_all(even_split(model.num_experts, world_size), model.num_layers)
    placements = [_placement(profile, topology, EVEN, even, "")]
    if plan is not None:
        placements.append(_placement(profile, topology, PLAN, plan.placements, plan.reason))
    return {
        "mixtralkit": __version__,
        "model": asdict(model),
        "measured": {
            "tokens": sum(rows_LE[0]) // model.top_k,
            "steps": profile.steps,
            "world_size": profile.world_size,
            "nodes": profile.topology.num_nodes,
        },
        "rows_per_expert": [sum(rows) for rows in zip(*rows_LE, strict=True)],
        "rows_per_layer_and_expert": rows_LE,
        "imbalance_of_experts": [busiest_over_mean(rows_E) for rows_E in rows_LE],
        "world_size": world_size,
        "node_of_rank": topology.node_of_rank,
        "placements": placements,
    }


def _placement(
    profile: LoadProfile, topology: Topology, name: str, placements: Sequence[Placement], reason: str
) -> dict[str, Any]:
    demand_LWE = profile.demand_of(len(topology.node_of_rank))
    balances = [balance_of(rows_WE, one, topology) for rows_WE, one in zip(demand_LWE, placements, strict=True)]
    total = max(sum(sum(balance.rows_W) for balance in balances), 1)
    held = [experts_held(placements, rank) for rank in range(len(topology.node_of_rank))]
    busiest = sum(max(balance.rows_W) for balance in balances)
    return {
        "name": name,
        "reason": reason,
        "rows_per_layer_and_rank": [balance.rows_W for balance in balances],
        "imbalance_of_ranks": [busiest_over_mean(balance.rows_W) for balance in balances],
        "imbalance": busiest * len(held) / total if busiest else 1.0,
        "share_leaving_rank": sum(balance.leaving_rank for balance in balances) / total,
        "share_leaving_node": sum(balance.leaving_node for balance in balances) / total,
        "expert_bytes_per_rank": [count * profile.model.expert_bytes for count in held],
    }
