"""Which tokens may be drawn and how often, against the definition."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtralkit.engine.largest import Floats
from mixtralkit.engine.narrowing import draw, nucleus
from mixtralkit.engine.request import SamplingParams
from tests.engine import plain_sampling

LOGITS = np.array([0.1, 2.0, -1.0, 1.5, 0.5, -3.0, 1.5], dtype=np.float32)
DRAWS = 400


def _drawn(logits: Floats, params: SamplingParams) -> Floats:
    """How often tokens are drawn by numbers that are spread evenly: each share is right to two draws."""
    tokens = [draw(logits, params, (i + 0.5) / DRAWS) for i in range(DRAWS)]
    return np.bincount(tokens, minlength=logits.size) / DRAWS


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "min_p"),
    list(itertools.product((1.0, 3.0), (0, 2, 3, 99), (1.0, 0.7, 1e-9), (0.0, 0.3))),
)
def test_shares(temperature: float, top_k: int, top_p: float, min_p: float) -> None:
    """Tokens 3 and 6 are equally likely: with a top_k of 2 only the first of them stays."""
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    expected = plain_sampling.shares(LOGITS.tolist(), params)
    drawn = _drawn(LOGITS, params)
    assert set(np.flatnonzero(drawn).tolist()) <= set(expected)
    for token, share in expected.items():
        assert drawn[token] == pytest.approx(share, abs=2 / DRAWS)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=1.0),
        SamplingParams(temperature=1.0, top_k=5),
        SamplingParams(temperature=1.0, top_p=0.9),
        SamplingParams(temperature=1.0, top_k=6, top_p=0.9, min_p=0.05),
    ],
)
def test_shares_lie_in_the_order_of_ids(params: SamplingParams) -> None:
    """So a larger number never draws a smaller id, whatever narrows the choice."""
    tokens = [draw(LOGITS, params, (i + 0.5) / DRAWS) for i in range(DRAWS)]
    assert tokens == sorted(tokens)


def test_shares_of_a_large_vocabulary() -> None:
    """Where sums go by blocks, and groups find the largest; the rarest of a thousand tokens counts half a draw."""
    logits = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    for params in (
        SamplingParams(temperature=1.0),
        SamplingParams(temperature=0.3, top_p=0.9),
        SamplingParams(temperature=1.0, top_k=20, min_p=0.2),
    ):
        expected = plain_sampling.shares(logits.tolist(), params)
        drawn = _drawn(logits, params)
        assert set(np.flatnonzero(drawn).tolist()) <= set(expected)
        np.testing.assert_allclose(drawn[list(expected)], list(expected.values()), rtol=0, atol=2 / DRAWS)


# Multiples of 1/64 add up without rounding, so that also a share that is reached exactly has one right answer.
EXACT_WEIGHTS = st.lists(st.integers(0, 64), max_size=400).map(lambda rest: np.array([64, *rest]) / 64)


@given(weights=EXACT_WEIGHTS, sixteenths=st.integers(1, 15))
def test_the_nucleus_is_that_of_a_full_sort(weights: Floats, sixteenths: int) -> None:
    """Of equal weights the first stay."""
    top_p = sixteenths / 16
    ranked = np.argsort(-weights, kind="stable").tolist()
    kept = plain_sampling.top_p(ranked, dict(enumerate(weights.tolist())), top_p)
    assert nucleus(weights, top_p).tolist() == sorted(kept)


@given(seed=st.integers(0, 2**32), spread=st.sampled_from([0.01, 1.0, 5.0, 400.0]), top_p=st.floats(0.001, 0.999))
def test_the_nucleus_of_any_weights(seed: int, spread: float, top_p: float) -> None:
    """From all alike to weights of 0; sums with roundings, far from which a share drawn at random lies."""
    logits = np.random.default_rng(seed).standard_normal(700) * spread
    weights = np.exp(logits - logits.max())
    ranked = np.argsort(-weights, kind="stable")
    count = int(np.searchsorted(weights[ranked].cumsum(), top_p * weights.sum())) + 1
    assert nucleus(weights, top_p).tolist() == sorted(ranked[:count].tolist())


@pytest.mark.parametrize("temperature", [1e-3, 1e-308, 5e-324])
def test_a_temperature_near_0_is_greedy(temperature: float) -> None:
    """Also where a logit divided by it is beyond float64."""
    params = SamplingParams(temperature=temperature)
    assert {draw(LOGITS, params, uniform) for uniform in (0.0, 0.5, np.nextafter(1.0, 0.0))} == {1}


@pytest.mark.parametrize("size", [3, 255, 256, 257, 2000])
def test_excluded_tokens_are_never_drawn(size: int) -> None:
    """Not even by the smallest and the largest number, whatever stands at the ends of a block."""
    logits = np.full(size, -np.inf)
    allowed = [size // 3, size // 2]
    logits[allowed] = [0.0, -1.0]
    params = SamplingParams(temperature=1.0, top_p=0.9999, min_p=1e-9)
    for uniform in (0.0, 1e-300, 0.5, 0.7310585786300048, 0.7310585786300050, np.nextafter(1.0, 0.0)):
        assert draw(logits, params, uniform) in allowed
        assert draw(logits, SamplingParams(temperature=1.0), uniform) in allowed


def test_the_largest_number_is_drawn_within_its_block() -> None:
    """Sums of a block in two orders differ by roundings; the rest of a number may come out above the block's sum."""
    for seed in range(50):
        logits = np.random.default_rng(seed).standard_normal(2000)
        logits[-3:] = -np.inf
        token = draw(logits, SamplingParams(temperature=1.0), float(np.nextafter(1.0, 0.0)))
        assert token < 1997
