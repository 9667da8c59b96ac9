"""The placements that a model is loaded with."""

import hashlib

from mixtralkit.config import ModelConfig
from mixtralkit.dist.topology import Topology
from mixtralkit.moe.placement.hot_experts import replicate_in_layers
from mixtralkit.moe.placement.plan import Placement, even_split, same_for_all
from mixtralkit.moe.placement.plan_file import read_plan
from mixtralkit.moe.strategies import Strategies


def starting_placements(
    strategies: Strategies, config: ModelConfig, topology: Topology, world_size: int
) -> tuple[Placement, ...]:
    """One a layer: of the plan's file, or the even split with the hot experts replicated on all ranks.

    Raises `UsageError` for a plan that does not fit, and for hot experts that there are none of.
    """
    if strategies.plan_file is not None:
        return read_plan(
            strategies.plan_file, num_layers=config.num_layers, num_experts=config.num_experts, world_size=world_size
        )
    homes = same_for_all(even_split(config.num_experts, world_size), config.num_layers)
    return replicate_in_layers(homes, strategies.hot_experts, topology)


def digest_of(placements: tuple[Placement, ...]) -> str:
    """A few characters that tell placements apart."""
    held = repr([placement.experts_of_rank for placement in placements])
    return hashlib.sha256(held.encode()).hexdigest()[:16]
