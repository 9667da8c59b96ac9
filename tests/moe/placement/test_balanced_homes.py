"""Homes by load: everyone has an owner, numbers stay equal, loads come out about even."""

from hypothesis import given
from hypothesis import strategies as st

from mixtralkit.moe.placement.balanced_homes import balanced_homes

LOADS = st.lists(st.integers(0, 1000), min_size=1, max_size=12)


@given(LOADS, st.integers(1, 8))
def test_each_expert_once_and_numbers_differ_by_at_most_one(load_E: list[int], world_size: int) -> None:
    """No rank is idle: with more ranks than experts each further one holds a replica."""
    placement = balanced_homes(load_E, world_size)
    counts = [len(placement.experts_of(rank)) for rank in range(world_size)]
    assert max(counts) - min(counts) <= 1
    assert placement.num_copies == max(len(load_E), world_size)


@given(LOADS)
def test_two_ranks_differ_by_no_more_than_the_heaviest_expert(load_E: list[int]) -> None:
    """Which is what may be left over when each goes where there is least to do, in equal numbers or not."""
    placement = balanced_homes(load_E, 2)
    loads = [sum(load_E[expert] for expert in placement.experts_of(rank)) for rank in range(2)]
    assert abs(loads[0] - loads[1]) <= max(load_E)


def test_known_packings() -> None:
    """The even split would have 17 and 3 rows; the further ranks help out where there is most to do a copy."""
    assert balanced_homes([9, 8, 2, 1], 2).experts_of_rank == ((0, 3), (1, 2))
    assert balanced_homes([90, 20], 5).experts_of_rank == ((0,), (1,), (0,), (0,), (0,))
    assert balanced_homes([90, 50], 5).experts_of_rank == ((0,), (1,), (0,), (1,), (0,))
    assert balanced_homes([0, 0], 4).experts_of_rank == ((0,), (1,), (0,), (1,))
