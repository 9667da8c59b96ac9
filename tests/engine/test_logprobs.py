"""Log probabilities, against torch's in float64."""

import numpy as np
import pytest
import torch

from mixtralkit.engine.logprobs import token_logprobs
from mixtralkit.errors import RequestError


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_as_a_log_softmax(scale: float) -> None:
    """Two float64 sums over 3000 tokens differ by roundings."""
    logits = torch.randn(3000, generator=torch.Generator().manual_seed(0)) * scale
    expected = torch.log_softmax(logits.double(), dim=0)
    told = token_logprobs(logits.numpy(), 77, 5)
    assert told.token == 77
    assert told.logprob == pytest.approx(float(expected[77]), rel=1e-14, abs=1e-14)
    values, tokens = expected.topk(5)
    assert [token for token, _ in told.top] == tokens.tolist()
    np.testing.assert_allclose([value for _, value in told.top], values, rtol=1e-14, atol=1e-14)


def test_the_token_has_the_same_value_among_the_likeliest() -> None:
    """Bit for bit, or clients that look it up there find two answers."""
    logits = np.random.default_rng(1).standard_normal(500).astype(np.float32)
    told = token_logprobs(logits, int(logits.argmax()), 3)
    assert told.top[0] == (told.token, told.logprob)


def test_equal_tokens_are_in_the_order_of_their_ids() -> None:
    told = token_logprobs(np.zeros(4, dtype=np.float32), 2, 3)
    assert [token for token, _ in told.top] == [0, 1, 2]
    assert {value for _, value in told.top} == {told.logprob}
    assert told.logprob == pytest.approx(-np.log(4), rel=1e-15)


def test_no_alternatives_and_more_than_there_are() -> None:
    logits = np.array([1.0, 2.0], dtype=np.float32)
    assert token_logprobs(logits, 0, 0).top == ()
    assert len(token_logprobs(logits, 0, 9).top) == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rows_that_are_no_numbers_are_refused(value: float) -> None:
    """JSON could not tell their logarithms."""
    with pytest.raises(RequestError, match="logits are no finite numbers"):
        token_logprobs(np.array([1.0, value, 2.0], dtype=np.float32), 0, 1)
