"""Which rank holds which expert of a layer, replicas included. Pure data and functions."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mixtralkit.errors import UsageError


@dataclass(frozen=True)
class Placement:
    """Of one layer: `experts_of_rank[r]` are the experts that rank r holds, ascending, as it keeps and computes them.

    Every expert has one owner or more; each further one holds a replica. A rank may hold any number of experts.
    """

    num_experts: int
    experts_of_rank: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        for rank, experts in enumerate(self.experts_of_rank):
            if list(experts) != sorted(set(experts)):
                raise ValueError(f"rank {rank} holds {list(experts)}: each expert once, ascending, is needed")
        held = {expert for experts in self.experts_of_rank for expert in experts}
        if held != set(range(self.num_experts)):
            raise ValueError(f"the ranks hold experts {sorted(held)}; all of 0 to {self.num_experts - 1} are needed")

    @property
    def world_size(self) -> int:
        """How many ranks there are."""
        return len(self.experts_of_rank)

    @property
    def num_copies(self) -> int:
        """How many experts all ranks hold together, each replica counted."""
        return sum(map(len, self.experts_of_rank))

    def experts_of(self, rank: int) -> tuple[int, ...]:
        """The experts that `rank` holds."""
        return self.experts_of_rank[rank]

    def owners_of(self, expert: int) -> tuple[int, ...]:
        """The ranks that hold `expert`, ascending."""
        return self._owners_of_expert[expert]

    def with_replica(self, expert: int, rank: int) -> "Placement":
        """The same, with `expert` on `rank` as well."""
        held = self.experts_of_rank
        grown = tuple(sorted({*held[rank], expert}))
        return Placement(self.num_experts, (*held[:rank], grown, *held[rank + 1 :]))

    @cached_property
    def _owners_of_expert(self) -> tuple[tuple[int, ...], ...]:
        ranks = range(self.world_size)
        held = [set(experts) for experts in self.experts_of_rank]
        return tuple(tuple(rank for rank in ranks if expert in held[rank]) for expert in range(self.num_experts))


def even_split(num_experts: int, world_size: int) -> Placement:
    """Consecutive experts to each rank, the first ranks taking one more where it does not divide: 8 on 3 is 3, 3, 2.

    With more ranks than experts every further rank holds a replica, so that none is idle: 4 on 6 is 0, 1, 2, 3, 0, 1.
    """
    if num_experts < 1 or world_size < 1:
        raise UsageError(
            f"{num_experts} experts cannot be spread over {world_size} ranks; at least one of each is needed"
        )
    if world_size > num_experts:
        return Placement(num_experts, tuple((rank % num_experts,) for rank in range(world_size)))
    share, extra = divmod(num_experts, world_size)
    begins = [rank * share + min(rank, extra) for rank in range(world_size + 1)]
    return Placement(num_experts, tuple(tuple(range(*ends)) for ends in itertools.pairwise(begins)))


def same_for_all(placement: Placement, num_layers: int) -> tuple[Placement, ...]:
    """`placement` for each of `num_layers` layers."""
    return (placement,) * num_layers


def experts_held(placements: Sequence[Placement], rank: int) -> int:
    """How many experts `rank` holds, over all layers."""
    return sum(len(placement.experts_of(rank)) for placement in placements)
