"""When refused clients are told to come again: by a clock that only the test moves."""

import pytest

from mixtralkit.serve.come_again import LEAST_RATE, MOST_SECONDS, WINDOW, ComeAgain


class Clock:
    """Also counts what has been answered, at `rate` a second."""

    def __init__(self, rate: float = 0.0) -> None:
        self.now = 1000.0
        self.rate = rate

    def __call__(self) -> float:
        return self.now

    def answered(self) -> int:
        return int(self.now * self.rate)


def told(later: ComeAgain, count: int) -> list[int]:
    """What so many clients are told at a time."""
    return [int(later.refusal().headers["retry-after"]) for _ in range(count)]


def test_who_comes_alone_waits_a_second() -> None:
    clock = Clock()
    later = ComeAgain(clock.answered, clock)
    for _ in range(5):
        assert told(later, 1) == [1]
        clock.now += 1


def test_a_crowd_is_spread_over_time() -> None:
    """No second gets more than are answered in one, or than may come in any case."""
    clock = Clock()
    later = ComeAgain(clock.answered, clock)
    seconds = told(later, 720)
    assert seconds == sorted(seconds)
    assert max(seconds.count(second) for second in seconds) <= LEAST_RATE
    assert seconds[-1] == pytest.approx(720 / LEAST_RATE, abs=1)


def test_a_fast_engine_has_them_back_sooner() -> None:
    clock = Clock(rate=100)
    later = ComeAgain(clock.answered, clock)
    for _ in range(20):
        clock.now += 1
        told(later, 1)
    assert told(later, 720)[-1] == pytest.approx(720 / 100, abs=1)
    clock.rate = 0
    clock.now += WINDOW + 1
    told(later, 1)
    assert told(later, 200)[-1] == pytest.approx(200 / LEAST_RATE, abs=1)


def test_nobody_is_told_more_than_clients_wait_for() -> None:
    """And after a crowd that never came back, the next one does not wait for it any longer."""
    clock = Clock()
    later = ComeAgain(clock.answered, clock)
    assert max(told(later, 100_000)) == MOST_SECONDS
    clock.now += MOST_SECONDS
    assert told(later, 1) == [1]


def test_the_answer_says_so_too() -> None:
    error = ComeAgain(lambda: 0).refusal()
    assert error.status == 429
    assert error.code == "queue_full"
    assert "try again in 1 s" in str(error)
