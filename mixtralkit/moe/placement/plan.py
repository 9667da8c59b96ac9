"""Which rank holds which expert of a layer. Pure data and functions."""

from dataclasses import dataclass

from mixtralkit.errors import UsageError


@dataclass(frozen=True)
class Placement:
    """`rank_of_expert[e]` is the rank that holds expert e; every rank of `world_size` may hold any number of them."""

    world_size: int
    rank_of_expert: tuple[int, ...]

    @property
    def num_experts(self) -> int:
        """How many experts the layer has in all."""
        return len(self.rank_of_expert)

    def experts_of(self, rank: int) -> tuple[int, ...]:
        """The experts that `rank` holds, in the order in which it keeps and computes them."""
        return tuple(expert for expert, owner in enumerate(self.rank_of_expert) if owner == rank)


def even_split(num_experts: int, world_size: int) -> Placement:
    """Consecutive experts to each rank, the first ranks taking one more where it does not divide: 8 on 3 is 3, 3, 2.

    Raises `UsageError` when there are more ranks than experts.
    """
    if not 1 <= world_size <= num_experts:
        raise UsageError(
            f"{world_size} ranks cannot share {num_experts} experts: every rank needs one. "
            f"Start 1 to {num_experts} ranks (torchrun: nnodes x nproc_per_node)"
        )
    share, extra = divmod(num_experts, world_size)
    shares = [share + (rank < extra) for rank in range(world_size)]
    return Placement(world_size, tuple(rank for rank, count in enumerate(shares) for _ in range(count)))
