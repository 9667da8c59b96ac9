"""Sampling against the probabilities it is meant to follow."""

import pytest
import torch

from mixtralkit.engine.request import SamplingParams
from mixtralkit.engine.sampling import new_generator, sample
from mixtralkit.errors import RequestError

LOGITS = torch.tensor([0.1, 2.0, -1.0, 1.5, 0.5, -3.0])
DRAWS = 4000


def _shares(params: SamplingParams) -> torch.Tensor:
    generator = new_generator(params)
    tokens = [sample(LOGITS, params, generator) for _ in range(DRAWS)]
    return torch.bincount(torch.tensor(tokens), minlength=LOGITS.numel()) / DRAWS


def _expected(keep: list[int], temperature: float) -> torch.Tensor:
    """By the definition, in a loop: the kept tokens share the whole probability."""
    shares = torch.zeros(LOGITS.numel(), dtype=torch.float64)
    for token in keep:
        shares[token] = (LOGITS[token].double() / temperature).exp()
    return (shares / shares.sum()).float()


@pytest.mark.parametrize(
    ("params", "keep"),
    [
        (SamplingParams(temperature=1.0), [0, 1, 2, 3, 4, 5]),
        (SamplingParams(temperature=0.5), [0, 1, 2, 3, 4, 5]),
        (SamplingParams(temperature=1.0, top_k=2), [1, 3]),
        (SamplingParams(temperature=1.0, top_p=0.7), [1, 3]),  # 0.47 + 0.28 reach 0.7
        (SamplingParams(temperature=1.0, top_p=0.8), [1, 3, 4]),
        (SamplingParams(temperature=1.0, top_k=2, top_p=0.6), [1]),  # of the two left, the first has 0.62
        (SamplingParams(temperature=1.0, top_p=1e-9), [1]),
        (SamplingParams(temperature=1.0, top_k=99), [0, 1, 2, 3, 4, 5]),
    ],
)
def test_shares(params: SamplingParams, keep: list[int]) -> None:
    """With 4000 draws a share's standard deviation is below 0.008; four of them are allowed."""
    shares = _shares(params)
    assert set(shares.nonzero().flatten().tolist()) <= set(keep)
    torch.testing.assert_close(shares, _expected(keep, params.temperature), atol=0.032, rtol=0)


def test_greedy_takes_the_likeliest() -> None:
    """And draws nothing."""
    generator = new_generator(SamplingParams())
    before = generator.get_state()
    assert sample(LOGITS, SamplingParams(top_k=3), generator) == 1
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("temperature", [1e-3, 1e-308, 5e-324])
def test_a_temperature_near_0_is_greedy(temperature: float) -> None:
    """Also where a logit divided by it is beyond float64."""
    params = SamplingParams(temperature=temperature)
    assert {sample(LOGITS, params, new_generator(params)) for _ in range(20)} == {1}


def test_the_seed_decides() -> None:
    """The same seed gives the same draws, another one does not."""

    def draws(seed: int) -> list[int]:
        params = SamplingParams(temperature=1.0, seed=seed)
        generator = new_generator(params)
        return [sample(LOGITS, params, generator) for _ in range(30)]

    assert draws(3) == draws(3)
    assert draws(3) != draws(4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("top_k", -1),
        ("seed", -1),
        ("stop", ("",)),
    ],
)
def test_values_out_of_range_are_named(field: str, value: object) -> None:
    """With what was given and what is allowed."""
    with pytest.raises(RequestError, match=f"{field} is .*; it must be"):
        SamplingParams(**{field: value})  # type: ignore[arg-type]
