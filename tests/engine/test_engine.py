"""The engine against the one-file oracle, and against itself at other sizes and in other company."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.engine.engine import Engine
from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.engine.request import Completion, Request, SamplingParams
from mixtralkit.errors import RequestError, UsageError
from mixtralkit.ops.quantized_weight import QuantKind
from mixtralkit.tokenizer import Tokenizer
from tests.dispatches import SPREAD
from tests.random_model import TINY, quantize_random, random_model, spread
from tests.ranks import run_ranks
from tests.reference import mixtral
from tests.reference.cases import shape_of
from tests.small_tokenizer import PIECES, small_tokenizer

CONFIG = replace(TINY, vocab_size=PIECES, context=40)
EVEN = replace(CONFIG, dim=64, hidden_dim=128, head_dim=16)  # every matrix can be quantized
ALONE = Collectives(None, torch.device("cpu"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    small_tokenizer(folder)
    return folder


def _engine(folder: Path, collectives: Collectives, dispatch: str, batch_size: int) -> Engine:
    model = random_model(CONFIG, seed=3)
    spread(model, dispatch, collectives)
    tokenizer = Tokenizer(folder / "tokenizer.model")
    return Engine(model=model, tokenizer=tokenizer, control=collectives, limits=EngineLimits(batch_size=batch_size))


def _requests() -> list[Request]:
    """Seven requests of all kinds: greedy and sampled, short and long, with and without a stop string."""
    generator = torch.Generator().manual_seed(9)
    prompts = [torch.randint(0, PIECES, (length,), generator=generator).tolist() for length in (3, 9, 1, 5, 30, 2, 7)]
    return [
        Request(
            tuple(prompt),
            SamplingParams(
                max_tokens=6 + 3 * number,
                temperature=0.0 if number % 2 else 1.0,
                top_k=0 if number % 3 else 50,
                top_p=0.9 if number == 4 else 1.0,
                seed=number + 2,
                stop=tuple("aeost") if number == 6 else (),
            ),
        )
        for number, prompt in enumerate(prompts)
    ]


def _answers(collectives: Collectives, folder: Path, dispatch: str, batch_size: int) -> list[Completion]:
    return _engine(folder, collectives, dispatch, batch_size).generate(_requests())


def _without_place(completions: list[Completion]) -> list[Completion]:
    return [replace(completion, rank=0, cached_tokens=0) for completion in completions]


def test_greedy_tokens_are_those_of_the_oracle(folder: Path) -> None:
    """The oracle recomputes everything for every token, in float64."""
    model = random_model(CONFIG, seed=3)
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    request = replace(_requests()[1], params=SamplingParams(max_tokens=8))
    (completion,) = _engine(folder, ALONE, "local", 1).generate([request])
    tokens = list(request.prompt_tokens)
    for token in completion.tokens:
        logits = mixtral.logits(weights, shape_of(CONFIG), tokens)[-1]
        assert int(logits.argmax()) == token
        tokens.append(token)


def test_the_same_text_in_any_batch(folder: Path) -> None:
    """One at a time, three at a time, all at once, and in another order."""
    alone = [_engine(folder, ALONE, "local", 1).generate([request])[0] for request in _requests()]
    for batch_size in (1, 3, 8):
        assert _answers(ALONE, folder, "local", batch_size) == alone
    assert _engine(folder, ALONE, "local", 3).generate(_requests()[::-1]) == alone[::-1]
    assert {completion.finish_reason for completion in alone} >= {"length", "context", "stop"}


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("dispatch", SPREAD)
def test_the_same_text_at_any_world_size(folder: Path, size: int, dispatch: str) -> None:
    """Greedy and sampled, with one slot a rank, so that requests wait, and rank 3 of 4 has nothing to do at times."""
    expected = _answers(ALONE, folder, "local", 8)
    ranks = run_ranks(size, _answers, folder, dispatch, 1)
    assert _without_place(ranks[0]) == expected
    assert {completion.rank for completion in ranks[0]} == set(range(size))
    assert ranks[1:] == [[]] * (size - 1)


def _quantized_answers(
    collectives: Collectives, folder: Path, kind: QuantKind, dispatch: str, batch_size: int
) -> list[Completion]:
    model = random_model(EVEN, seed=3)
    quantize_random(model, kind)
    spread(model, dispatch, collectives)
    tokenizer = Tokenizer(folder / "tokenizer.model")
    return Engine(
        model=model, tokenizer=tokenizer, control=collectives, limits=EngineLimits(batch_size=batch_size)
    ).generate(_requests())


@pytest.mark.parametrize("kind", QuantKind)
def test_quantized_weights_give_the_same_text_in_any_batch_at_any_world_size(folder: Path, kind: QuantKind) -> None:
    expected = _quantized_answers(ALONE, folder, kind, "local", 8)
    assert _quantized_answers(ALONE, folder, kind, "local", 1) == expected
    ranks = run_ranks(2, _quantized_answers, folder, kind, "collective", 2)
    assert _without_place(ranks[0]) == expected


def test_text_comes_as_it_is_made(folder: Path) -> None:
    """What `on_text` was told adds up to the completions' texts, and steps are announced."""
    engine = _engine(folder, ALONE, "local", 4)
    heard: dict[int, str] = {}
    steps: list[str] = []
    engine._on_step = steps.append
    completions = engine.generate(
        _requests(), lambda number, text: heard.__setitem__(number, heard.get(number, "") + text)
    )
    assert [heard.get(number, "") for number in range(7)] == [completion.text for completion in completions]
    assert steps[0] == "prefill step 1"
    assert f"decode step {engine.stats.decode.steps}" in steps


def test_stats_count_every_token(folder: Path) -> None:
    """With all requests at once prompts are fed in one step, and the first token of a response comes with it. A request
    that ends by EOS was planned once more, as its end was not known yet.
    """
    engine = _engine(folder, ALONE, "local", 8)
    completions = engine.generate(_requests())
    by_surprise = sum(completion.finish_reason in ("eos", "stop") for completion in completions)
    decoded = sum(len(completion.tokens) - 1 for completion in completions)
    assert engine.stats.prefill.steps == 1
    assert engine.stats.prefill.tokens == sum(completion.prompt_tokens for completion in completions)
    assert decoded <= engine.stats.decode.tokens <= decoded + by_surprise


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ((), "the prompt has no tokens"),
        ((1,) * 40, "the prompt has 40 tokens, but the model's context is 40 .* at most 39"),
        ((1, PIECES), f"token id {PIECES} is outside the vocabulary of 0 to {PIECES - 1}"),
        ((-1,), "token id -1 is outside"),
    ],
)
def test_requests_that_cannot_be_served_are_refused_before_any_work(
    folder: Path, prompt: tuple[int, ...], message: str
) -> None:
    engine = _engine(folder, ALONE, "local", 4)
    with pytest.raises(RequestError, match=message):
        engine.generate([*_requests(), Request(prompt, SamplingParams())])
    assert engine.stats.prefill.steps == 0


def test_no_requests_no_work(folder: Path) -> None:
    assert _engine(folder, ALONE, "local", 4).generate([]) == []


def test_a_batch_of_nothing_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="batch_size is 0; it must be at least 1"):
        _engine(folder, ALONE, "local", 0)


def test_a_request_has_no_more_tokens_than_the_limits_say() -> None:
    """Of the model's context, the room for keys and values, and the limit, the least."""
    assert EngineLimits().most_context(64) == 64
    assert EngineLimits(context=40).most_context(64) == 40
    assert EngineLimits(context=40, kv_tokens=32).most_context(64) == 32
    with pytest.raises(UsageError, match="context is 1"):
        EngineLimits(context=1)
