"""Where the rows of an expert go when several ranks hold it: here if possible, else near, else to who has least to do.

The choice goes by the source rank, not by the row: every rank knows it beforehand, for all ranks, so no messages are
needed to agree on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mixtralkit.dist.topology import Topology
from mixtralkit.moe.placement.plan import Placement

OwnersWE = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Routes:
    """One layer as rank `rank` needs to know it: `owner_WE[w][e]` is where rank w sends its rows of expert e, and
    `topology` who is on which node.
    """

    placement: Placement
    topology: Topology
    owner_WE: OwnersWE
    rank: int

    @property
    def world_size(self) -> int:
        """How many ranks there are."""
        return self.placement.world_size

    @property
    def local_experts(self) -> tuple[int, ...]:
        """The experts that this rank holds."""
        return self.placement.experts_of(self.rank)

    @property
    def owner_E(self) -> tuple[int, ...]:
        """Where this rank sends its own rows."""
        return self.owner_WE[self.rank]

    @cached_property
    def stays_home(self) -> bool:
        """Whether no row of any rank leaves it."""
        return all(set(owners) == {rank} for rank, owners in enumerate(self.owner_WE))


def routes_of(
    placement: Placement, topology: Topology, rank: int, demand_WE: Sequence[Sequence[float]] | None = None
) -> Routes:
    """The routes of `rank`; see `nearest_owners`."""
    return Routes(placement, topology, nearest_owners(placement, topology, demand_WE), rank)


def nearest_owners(
    placement: Placement, topology: Topology, demand_WE: Sequence[Sequence[float]] | None = None
) -> OwnersWE:
    """Where each rank sends its rows of each expert: to itself, else to an owner on its node, else to any.

    Of several equally near owners it is the one that has least to do so far, and of these the lowest rank. `demand_WE`
    says how many rows each rank has for each expert; without it every pair counts the same. First those with one
    choice are counted, then the others in the order of their demand.
    """
    choices = {
        (rank, expert): nearest(placement.owners_of(expert), topology, rank)
        for rank in range(placement.world_size)
        for expert in range(placement.num_experts)
    }

    def demand(pair: tuple[int, int]) -> float:
        return 1.0 if demand_WE is None else demand_WE[pair[0]][pair[1]]

    rows = [0.0] * placement.world_size
    owner: dict[tuple[int, int], int] = {}
    for pair in sorted(choices, key=lambda pair: (len(choices[pair]) > 1, -demand(pair), pair)):
        owner[pair] = min(choices[pair], key=lambda rank: (rows[rank], rank))
        rows[owner[pair]] += demand(pair)
    return tuple(
        tuple(owner[rank, expert] for expert in range(placement.num_experts)) for rank in range(placement.world_size)
    )


def nearest(owners: Sequence[int], topology: Topology, rank: int) -> Sequence[int]:
    """Those of `owners` that are nearest to `rank`."""
    if rank in owners:
        return (rank,)
    node = topology.node_of_rank[rank]
    return [owner for owner in owners if topology.node_of_rank[owner] == node] or owners
