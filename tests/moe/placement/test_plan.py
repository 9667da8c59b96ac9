"""The even split, for every size that can occur."""

import pytest

from mixtralkit.errors import UsageError
from mixtralkit.moe.placement.plan import even_split


@pytest.mark.parametrize(("experts", "ranks"), [(e, r) for e in range(1, 13) for r in range(1, e + 1)])
def test_every_expert_has_one_owner_and_shares_differ_by_at_most_one(experts: int, ranks: int) -> None:
    """What the loader and the dispatches rely on."""
    placement = even_split(experts, ranks)
    shares = [placement.experts_of(rank) for rank in range(ranks)]
    assert sorted(e for share in shares for e in share) == list(range(experts))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(placement.rank_of_expert[e] == rank for rank, share in enumerate(shares) for e in share)


def test_eight_on_three() -> None:
    """The documented example."""
    assert [len(even_split(8, 3).experts_of(rank)) for rank in range(3)] == [3, 3, 2]


@pytest.mark.parametrize("ranks", [0, 9])
def test_other_sizes_are_refused_with_the_valid_ones(ranks: int) -> None:
    """A rank without experts is not supported."""
    with pytest.raises(UsageError, match=f"{ranks} ranks cannot share 8 experts.*1 to 8 ranks"):
        even_split(8, ranks)
