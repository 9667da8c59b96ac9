"""Offsets of made-up clocks: the true one lies within the bound that is stated."""

import random

from mixtralkit.dist.clock_offsets import ClockOffset, offsets_from
from mixtralkit.dist.topology import Topology


def meetings(ahead: list[float], count: int, seed: int) -> list[list[tuple[float, float]]]:
    """What ranks whose clocks are so far ahead note at meetings that take up to a millisecond to come and to leave."""
    draw = random.Random(seed)
    noted: list[list[tuple[float, float]]] = [[] for _ in ahead]
    for meeting in range(count):
        for rank, seconds in enumerate(ahead):
            moment = 100.0 + meeting + seconds  # at which the last rank comes, on this rank's clock
            noted[rank].append((moment - draw.random() / 1000, moment + draw.random() / 1000))
    return noted


def test_the_true_offset_is_within_the_bound() -> None:
    """Also for many seconds; of a host's ranks each narrows the bound, and its clock is one."""
    for seed in range(20):
        ahead = [0.0, 0.0, 73.5, 73.5, -0.25]
        found = offsets_from(meetings(ahead, 16, seed), Topology((0, 0, 1, 1, 2)))
        assert found[:2] == [ClockOffset(0.0, 0.0)] * 2
        assert found[2] == found[3]
        for offset, true in zip(found, ahead, strict=True):
            assert abs(offset.seconds - true) <= offset.error + 1e-9  # and what doubles of this size lose
            assert offset.error < 1e-3


def test_by_hand() -> None:
    """Rank 1's second meeting says: at least 4.0 - 1.5 ahead; its first: at most 3.0 - 0.0."""
    rank_0 = [(0.0, 2.0), (1.0, 1.5)]
    rank_1 = [(2.0, 3.0), (4.0, 5.0)]
    assert offsets_from([rank_0, rank_1], Topology((0, 1)))[1] == ClockOffset(2.75, 0.25)
