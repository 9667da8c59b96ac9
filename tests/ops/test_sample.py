"""The choice of tokens with torch's operators; ops/triton/test_sample_kernels.py has the same for the kernels."""

import math

import pytest
import torch
from hypothesis import given

from mixtralkit.ops.sample import GREEDY, NO_TOKEN, Settings, sample, settings_of
from tests.ops.sampled import EDGES, check_token, host_token, problems


@given(problem=problems(400))
def test_any_row_and_settings(problem: tuple[torch.Tensor, Settings]) -> None:
    """By the definition, and what the host draws."""
    logits_V, settings = problem
    (token,) = sample(logits_V[None], settings_of([settings])).tolist()
    check_token(logits_V, settings, token)
    assert token == host_token(logits_V, settings)


@pytest.mark.parametrize("edge", EDGES)
def test_edges(edge: str) -> None:
    logits_BV, rows = EDGES[edge]
    for logits_V, settings, token in zip(logits_BV, rows, sample(logits_BV, settings_of(rows)).tolist(), strict=True):
        check_token(logits_V, settings, token)


@pytest.mark.parametrize("settings", [GREEDY, Settings(1.0, 0.1, 2, 0.5, 0.5)])
def test_rows_that_are_no_numbers(settings: Settings) -> None:
    rows = [[1.0, math.nan, math.inf], [math.inf, 0.0, 1.0], [-math.inf] * 3, [-math.inf, 0.0, -math.inf]]
    tokens = sample(torch.tensor(rows), settings_of([settings] * len(rows))).tolist()
    assert tokens == [-1, -2, -3, 1]
    assert [str(NO_TOKEN[token]) for token in tokens[:3]] == ["nan", "inf", "-inf"]


def test_no_rows() -> None:
    tokens_B = sample(torch.empty(0, 7), settings_of([]))
    assert (tokens_B.shape, tokens_B.dtype) == ((0,), torch.int64)
