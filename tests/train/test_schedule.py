"""The learning rate at the corners of its curve."""

import pytest

from mixtralkit.errors import UsageError
from mixtralkit.train.schedule import Schedule


def test_the_curve() -> None:
    schedule = Schedule(peak=2.0, steps=100, warmup=4, decay=20)
    assert [schedule.rate(step) for step in range(5)] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert schedule.rate(79) == schedule.rate(80) == 2.0
    assert schedule.rate(90) == pytest.approx(1.0)
    assert 0 < schedule.rate(99) < 0.02
    rates = [schedule.rate(step) for step in range(80, 100)]
    assert rates == sorted(rates, reverse=True)


def test_without_warmup_or_decay_the_rate_is_constant() -> None:
    schedule = Schedule(peak=0.5, steps=3, warmup=0, decay=0)
    assert [schedule.rate(step) for step in range(3)] == [0.5, 0.5, 0.5]


def test_before_the_decay_the_end_does_not_matter() -> None:
    short, long = Schedule(1.0, 50, 10, 20), Schedule(1.0, 500, 10, 200)
    assert [short.rate(step) for step in range(31)] == [long.rate(step) for step in range(31)]


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="10 steps of warm-up and 20 of decay do not fit into 29 steps"):
        Schedule(1.0, steps=29, warmup=10, decay=20)
