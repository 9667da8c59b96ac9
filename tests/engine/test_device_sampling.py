"""Requests that are sampled where the logits are write what the host has them write, whatever else is in the batch."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.engine import device_sampling
from mixtralkit.engine.engine import Engine
from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.engine.request import Completion, Grammar, Request, SamplingParams
from mixtralkit.engine.sampling import is_plain
from mixtralkit.errors import RequestError
from mixtralkit.model.transformer import Transformer
from mixtralkit.ops import sample as ops_sample
from mixtralkit.ops.sample import GREEDY, Settings, sample
from mixtralkit.tokenizer import Tokenizer
from tests.random_model import TINY, random_model, spread
from tests.small_tokenizer import PIECES, small_tokenizer

CONFIG = replace(TINY, vocab_size=PIECES, context=64)
PLAIN = [
    SamplingParams(max_tokens=20, ignore_eos=True),
    SamplingParams(max_tokens=20, temperature=1.0, seed=1, ignore_eos=True, stop_token_ids=(3,)),
    SamplingParams(max_tokens=12, temperature=0.7, top_p=0.9, seed=2, stop=("e",)),
    SamplingParams(max_tokens=30, temperature=2.0, top_k=9, top_p=0.8, min_p=0.01, seed=3),
    SamplingParams(max_tokens=9, temperature=1.0, top_k=10**400, seed=4),
]
OTHERS = [
    SamplingParams(max_tokens=20, temperature=1.0, seed=1, logprobs=2),
    SamplingParams(max_tokens=16, ignore_eos=True, prompt_logprobs=1),
    SamplingParams(max_tokens=15, temperature=1.0, repetition_penalty=1.3),
    SamplingParams(max_tokens=30, temperature=1.0, min_p=0.02, seed=4, logit_bias=((5, 3.0),)),
    SamplingParams(max_tokens=12, min_tokens=10, temperature=1.0),
    SamplingParams(max_tokens=12, temperature=1.0, grammar=Grammar("regex", "[a-z]{8}")),
]
LIMITS = {
    "together": EngineLimits(batch_size=16),
    "in pieces, some at a time": EngineLimits(batch_size=3, step_tokens=7, block_size=4, kv_tokens=72),
    "guessed": EngineLimits(batch_size=4, step_tokens=32, block_size=4, drafts=3),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    small_tokenizer(folder)
    return folder


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The tensors of settings that went to ops/sample, for the time of a test in which the CPU counts as a device."""
    seen: list[torch.Tensor] = []

    def watched(logits_BV: torch.Tensor, settings_B5: torch.Tensor) -> torch.Tensor:
        seen.append(settings_B5)
        return sample(logits_BV, settings_B5)

    monkeypatch.setattr(device_sampling, "triton_takes", lambda x: True)
    monkeypatch.setattr(device_sampling, "sample", watched)
    return seen


def _requests(params: Sequence[SamplingParams]) -> list[Request]:
    """Prompts that repeat themselves, so that something can be guessed."""
    generator = torch.Generator().manual_seed(5)
    prompts = [torch.randint(3, PIECES, (5,), generator=generator).tolist() * 2 for _ in params]
    return [Request(tuple(prompt), own) for prompt, own in zip(prompts, params, strict=True)]


def _texts(
    folder: Path,
    limits: EngineLimits,
    model: Transformer | None = None,
    params: Sequence[SamplingParams] = (*PLAIN, *OTHERS),
) -> list[Completion]:
    model = model or random_model(CONFIG, seed=3)
    alone = Collectives(None, torch.device("cpu"))
    spread(model, "local", alone)
    engine = Engine(model=model, tokenizer=Tokenizer(folder / "tokenizer.model"), control=alone, limits=limits)
    return engine.generate(_requests(params))


def _texts_of_the_host(
    folder: Path, limits: EngineLimits, params: Sequence[SamplingParams] = (*PLAIN, *OTHERS)
) -> list[Completion]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_sampling, "triton_takes", lambda x: False)
        return _texts(folder, limits, params=params)


@pytest.mark.parametrize("limits", LIMITS)
def test_the_texts_are_those_of_the_host(folder: Path, limits: str, sampled: list[torch.Tensor]) -> None:
    """The same logits: sums in another order change a draw once in 1e12 or so."""
    found = _texts(folder, LIMITS[limits])
    assert len(sampled) > 10
    assert found == _texts_of_the_host(folder, LIMITS[limits])


def test_the_kernels_texts_are_those_of_the_host(folder: Path, sampled: list[torch.Tensor]) -> None:
    """All kinds of requests in one batch. Only the sampling is interpreted, so that the logits are the same."""
    pytest.importorskip("triton")
    few = [replace(params, max_tokens=4, min_tokens=min(params.min_tokens, 3)) for params in PLAIN + OTHERS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ops_sample, "triton_takes", lambda x: True)
        found = _texts(folder, LIMITS["together"], params=few)
    assert len(sampled) == 4
    assert found == _texts_of_the_host(folder, LIMITS["together"], few)


def test_which_requests_are_plain() -> None:
    """All whose tokens follow from the logits by temperature, min-p, top-k and top-p."""
    assert all(map(is_plain, PLAIN))
    assert not any(map(is_plain, OTHERS))


def test_rows_of_other_requests_are_not_sampled_on_the_device(folder: Path, sampled: list[torch.Tensor]) -> None:
    """They are taken greedily there, which costs least."""
    _texts(folder, LIMITS["together"])
    temperatures = [Settings(*row).temperature for settings_B5 in sampled for row in settings_B5.tolist()]
    wanted = [params.temperature for params in PLAIN]
    assert set(temperatures) == {*wanted, GREEDY.temperature}
    first = [Settings(*row) for row in sampled[0].tolist()]
    assert [row.temperature for row in first[: len(PLAIN)]] == wanted
    assert set(first[len(PLAIN) :]) == {GREEDY}


@pytest.mark.parametrize(("value", "told"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")])
def test_bad_logits_end_a_request_as_on_the_host(
    folder: Path, sampled: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch, value: float, told: str
) -> None:
    model = random_model(CONFIG, seed=3)
    monkeypatch.setattr(model, "next_token_logits", lambda batch, cache: _filled(len(batch.logit_rows), value))
    with pytest.raises(RequestError, match=rf"no finite numbers \(their largest is {told}\)"):
        _texts(folder, LIMITS["together"], model, PLAIN)


def _filled(rows: int, value: float) -> torch.Tensor:
    return torch.full((rows, PIECES), value)
