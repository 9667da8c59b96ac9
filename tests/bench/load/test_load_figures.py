"""The figures: percentiles beside numpy's, and the rest beside numbers worked out by hand."""

from dataclasses import astuple

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtralkit.bench.load.answer_stream import Answer
from mixtralkit.bench.load.load_client import Failure
from mixtralkit.bench.load.load_figures import figures_of, percentile, spread_of, time_per_token


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=50), st.floats(0, 100))
def test_percentiles_are_numpys(values: list[float], percent: float) -> None:
    """Up to the rounding of two ways to interpolate."""
    expected = float(numpy.percentile(values, percent))
    assert percentile(sorted(values), percent) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=50))
def test_spreads_are_numpys(values: list[float]) -> None:
    expected = (numpy.mean(values), *numpy.percentile(values, (50, 90, 99)))
    found = spread_of(values)
    assert found is not None
    assert astuple(found) == pytest.approx(tuple(map(float, expected)), rel=1e-9)


def test_nothing_has_no_spread() -> None:
    assert spread_of([]) is None


def answer(started: float, first: float, latency: float, tokens: int, **more: object) -> Answer:
    values = {"gaps": (), "prompt_tokens": 10, "asked_tokens": tokens, "usage": True, **more}
    return Answer(started=started, first=first, latency=latency, output_tokens=tokens, **values)  # type: ignore[arg-type]


RESULTS = (
    answer(1.0, 0.5, 2.5, 5, gaps=(0.5, 0.5, 1.0)),
    answer(1.5, 1.5, 1.5, 1, asked_tokens=4),
    Failure(2.0, 0.1, "429", "busy"),
    Failure(2.0, 3.0, "unfinished", "time is up"),
    answer(2.0, 1.0, 2.0, 2, gaps=(1.0,), prompt_tokens=None, usage=False),
    Failure(2.0, 0.1, "429", "busy"),
)


def test_figures_by_hand() -> None:
    figures = figures_of(RESULTS)
    assert figures.seconds == 4.0  # from the first's start at 1 to the end of what was unfinished at 5
    assert figures.answered == 3
    assert figures.failed == {"429": 2, "unfinished": 1}
    assert (figures.prompt_tokens, figures.output_tokens) == (20, 8)
    assert figures.requests_per_second == 3 / 4
    assert figures.output_tokens_per_second == 8 / 4
    assert figures.total_tokens_per_second == 28 / 4
    # 0.5, 1.0 and 1.5: the 90th percentile lies 0.8 of the way from the second to the third, the 99th 0.98
    assert figures.ttft is not None
    assert astuple(figures.ttft) == pytest.approx((1.0, 1.0, 1.4, 1.49))
    # (2.5 - 0.5) / 4 and (2.0 - 1.0) / 1; the answer of one token has no second
    assert figures.tpot is not None
    assert figures.tpot.mean == pytest.approx(0.75)
    assert figures.itl is not None
    assert figures.itl.mean == pytest.approx(0.75)  # of 0.5, 0.5, 1.0 and 1.0: all gaps of all answers
    assert figures.latency is not None
    assert figures.latency.median == 2.0
    assert (figures.short, figures.uncounted) == (1, 1)


def test_time_per_token_is_of_the_tokens_after_the_first() -> None:
    assert time_per_token(answer(0, 0.25, 1.75, 4)) == 0.5
    assert time_per_token(answer(0, 0.25, 1.75, 1)) is None
    assert time_per_token(answer(0, 0.25, 1.75, 0)) is None


def test_failures_alone_have_rates_of_zero() -> None:
    figures = figures_of([Failure(0.0, 0.5, "connection", "refused")])
    assert (figures.answered, figures.requests_per_second, figures.ttft) == (0, 0.0, None)
    assert figures_of([]).seconds == 0.0
