"""Poisson arrivals: beside the exponential distribution's own numbers."""

import itertools
import math

import pytest

from mixtralkit.bench.load.load_arrivals import poisson_arrivals


def test_gaps_are_exponential() -> None:
    """Of 20,000 gaps the mean, and the share above each of some times. The tolerances are 5 standard errors, and the
    seed is fixed.
    """
    rate, count = 4.0, 20_001
    arrivals = poisson_arrivals(count, rate, seed=1)
    gaps = [later - earlier for earlier, later in itertools.pairwise(arrivals)]
    assert arrivals[0] == 0
    assert len(arrivals) == count
    assert min(gaps) > 0
    assert sum(gaps) / len(gaps) == pytest.approx(1 / rate, rel=5 / math.sqrt(len(gaps)))
    for time in (0.05, 0.25, 1.0):
        share = sum(gap > time for gap in gaps) / len(gaps)
        assert share == pytest.approx(math.exp(-rate * time), abs=5 * 0.5 / math.sqrt(len(gaps)))


def test_the_seed_decides() -> None:
    assert poisson_arrivals(9, 2.0, seed=5) == poisson_arrivals(9, 2.0, seed=5)
    assert poisson_arrivals(9, 2.0, seed=5) != poisson_arrivals(9, 2.0, seed=6)
    assert poisson_arrivals(1, 2.0, seed=5) == [0.0]
