"""The placements that a model is loaded with."""

import hashlib

from mixtralkit.config import ModelConfig
from mixtralkit.dist.topology import Topology
from mixtralkit.errors import UsageError
from mixtralkit.moe.placement.hot_experts import replicate_in_layers
from mixtralkit.moe.placement.plan import Placement, even_split, experts_held, same_for_all
from mixtralkit.moe.placement.plan_file import read_plan
from mixtralkit.moe.strategies import Strategies
from mixtralkit.sizes import size


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
    return replicate_in_layers(homes, strategies.hot_experts, topology, strategies.hot_scope)


def check_replica_memory(strategies: Strategies, placements: tuple[Placement, ...], expert_nbytes: int) -> None:
    """Raise `UsageError` when replicas that the user chose take more than the user's --replica-memory.

    `expert_nbytes` is one expert of one layer. An adaptive placement keeps within the limit by itself.
    """
    limit, ranks = strategies.replica_memory, range(placements[0].world_size)
    if limit is None or strategies.adaptive:
        return
    home = even_split(placements[0].num_experts, len(ranks))
    for rank in ranks:
        taken = (experts_held(placements, rank) - len(placements) * len(home.experts_of(rank))) * expert_nbytes
        if taken > limit:
            raise UsageError(
                f"the replicas of rank {rank} take {size(taken)}, and {strategies.source('replica_memory')} is "
                f"{size(limit)}; choose fewer, or allow more"
            )


def digest_of(placements: tuple[Placement, ...]) -> str:
    """A few characters that tell placements apart."""
    held = repr([placement.experts_of_rank for placement in placements])
    return hashlib.sha256(held.encode()).hexdigest()[:16]
