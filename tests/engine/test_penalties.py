"""Bias and penalties, against the definition."""

import numpy as np
import pytest

from mixtralkit.engine.penalties import Penalties, changes_logits
from mixtralkit.engine.request import SamplingParams
from tests.engine import plain_sampling

VOCAB = 12
PROMPT = (3, 4, 4, 9)
OUTPUT = (5, 4, 5, 5, 0)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(repetition_penalty=1.5),
        SamplingParams(repetition_penalty=0.5),
        SamplingParams(presence_penalty=0.7),
        SamplingParams(frequency_penalty=-0.3),
        SamplingParams(presence_penalty=0.3, frequency_penalty=-0.3),  # the first occurrence changes nothing
        SamplingParams(logit_bias=((0, 5.0), (11, -100.0))),
        SamplingParams(logit_bias=((5, -3.0),), repetition_penalty=1.3, presence_penalty=1.0, frequency_penalty=0.5),
    ],
)
def test_as_defined(params: SamplingParams) -> None:
    """At every length of the response; the sums differ from the definition's by roundings only."""
    assert changes_logits(params)
    penalties = Penalties(params, PROMPT, VOCAB)
    logits = np.random.default_rng(0).standard_normal(VOCAB)
    for count in range(len(OUTPUT) + 1):
        result = logits.copy()
        penalties.apply(result)
        expected = plain_sampling.changed(logits.tolist(), params, PROMPT, OUTPUT[:count])
        np.testing.assert_allclose(result, expected, rtol=1e-14)
        if count < len(OUTPUT):
            penalties.push(OUTPUT[count])


def test_excluded_tokens_stay_excluded() -> None:
    params = SamplingParams(repetition_penalty=0.5, logit_bias=((3, 100.0),), presence_penalty=-2.0)
    logits = np.full(VOCAB, -np.inf)
    penalties = Penalties(params, PROMPT, VOCAB)
    penalties.push(3)
    penalties.apply(logits)
    assert (logits == -np.inf).all()


def test_most_requests_have_none() -> None:
    assert not changes_logits(SamplingParams(temperature=1.0, top_p=0.5, min_p=0.1, min_tokens=3))
