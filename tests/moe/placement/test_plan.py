"""The even split, for every size that can occur, and replicas beside it."""

import pytest

from mixtralkit.errors import UsageError
from mixtralkit.moe.placement.plan import Placement, even_split


@pytest.mark.parametrize(("experts", "ranks"), [(e, r) for e in range(1, 13) for r in range(1, e + 1)])
def test_every_expert_has_one_owner_and_shares_differ_by_at_most_one(experts: int, ranks: int) -> None:
    """What the loader and the dispatches rely on."""
    placement = even_split(experts, ranks)
    shares = [placement.experts_of(rank) for rank in range(ranks)]
    assert [e for share in shares for e in share] == list(range(experts))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(placement.owners_of(e) == (rank,) for rank, share in enumerate(shares) for e in share)


def test_eight_on_three() -> None:
    """The documented example."""
    assert [len(even_split(8, 3).experts_of(rank)) for rank in range(3)] == [3, 3, 2]


@pytest.mark.parametrize(("experts", "ranks"), [(4, 6), (1, 3), (3, 8), (8, 9)])
def test_with_more_ranks_than_experts_every_rank_has_one(experts: int, ranks: int) -> None:
    """No rank is idle, and no expert has two replicas more than another."""
    placement = even_split(experts, ranks)
    assert all(len(placement.experts_of(rank)) == 1 for rank in range(ranks))
    copies = [len(placement.owners_of(expert)) for expert in range(experts)]
    assert sum(copies) == placement.num_copies == ranks
    assert max(copies) - min(copies) <= 1


@pytest.mark.parametrize(("experts", "ranks"), [(8, 0), (0, 2)])
def test_nothing_cannot_be_spread(experts: int, ranks: int) -> None:
    """Neither no experts nor no ranks."""
    with pytest.raises(UsageError, match=f"{experts} experts cannot be spread over {ranks} ranks"):
        even_split(experts, ranks)


def test_a_replica_is_one_more_owner() -> None:
    """Of that expert, on that rank, in ascending order; a second time it changes nothing."""
    placement = even_split(4, 2).with_replica(3, 0)
    assert placement.experts_of_rank == ((0, 1, 3), (2, 3))
    assert placement.owners_of(3) == (0, 1)
    assert placement.with_replica(3, 0) == placement


@pytest.mark.parametrize("held", [((0, 1), (3,)), ((0, 1), (2, 4)), ((1, 0), (2, 3)), ((0, 1, 1), (2, 3))])
def test_what_is_no_placement_is_refused(held: tuple[tuple[int, ...], ...]) -> None:
    """An expert without owner, one that does not exist, experts out of order or twice."""
    with pytest.raises(ValueError, match="needed"):
        Placement(4, held)
