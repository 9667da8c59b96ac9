"""The engine as a server uses it: requests come and go from other threads while it runs."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.engine.engine import Engine
from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.engine.output import Output
from mixtralkit.engine.request import EngineClosed, Grammar, QueueFull, Request, SamplingParams
from mixtralkit.engine.snapshot import StepFacts
from mixtralkit.engine.whole_responses import completion_of
from mixtralkit.errors import RequestError
from mixtralkit.tokenizer import Tokenizer
from tests.random_model import TINY, random_model, spread
from tests.ranks import run_ranks
from tests.small_tokenizer import PIECES, small_tokenizer

CONFIG = replace(TINY, vocab_size=PIECES, context=2048)
ALONE = Collectives(None, torch.device("cpu"))
PATIENCE = 30.0
ENDLESS = SamplingParams(max_tokens=2000, ignore_eos=True)
SHORT = SamplingParams(max_tokens=5, ignore_eos=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    small_tokenizer(folder)
    return folder


def _engine(folder: Path, collectives: Collectives = ALONE, **named: Any) -> Engine:
    model = random_model(CONFIG, seed=3)
    spread(model, "local" if collectives.size == 1 else "collective", collectives)
    limits = EngineLimits(**({"batch_size": 2, "step_tokens": 16} | named.pop("limits", {})))
    tokenizer = Tokenizer(folder / "tokenizer.model")
    return Engine(model=model, tokenizer=tokenizer, control=collectives, limits=limits, **named)


@contextmanager
def _running(engine: Engine) -> Iterator[list[BaseException]]:
    """The engine's loop on a thread for the time of a `with` block; yields what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            engine.run()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield raised
    finally:
        engine.stop(now=True)
        thread.join(PATIENCE)
    assert not thread.is_alive()


class _Client:
    """Submits a request and keeps what it is told."""

    def __init__(self, engine: Engine, params: SamplingParams = SHORT, prompt: tuple[int, ...] = (1, 50)) -> None:
        self._outputs: queue.SimpleQueue[Output] = queue.SimpleQueue()
        self.told: list[Output] = []
        self.number = engine.submit(Request(prompt, params), self._outputs.put)

    def hear(self) -> Output:
        """The next output."""
        self.told.append(self._outputs.get(timeout=PATIENCE))
        return self.told[-1]

    def wait(self) -> list[Output]:
        """All outputs to the last."""
        while not self.told or self.told[-1].finish_reason is None:
            self.hear()
        return self.told


def test_requests_join_and_leave_at_every_step(folder: Path) -> None:
    """A request that comes while others run is answered before them if it is shorter, with the text it has alone."""
    engine = _engine(folder)
    (alone,) = _engine(folder).generate([Request((1, 60), SHORT)])
    with _running(engine):
        long = _Client(engine, ENDLESS)
        long.hear()
        short = _Client(engine, SHORT, (1, 60))
        completion = completion_of(short.wait())
        assert completion.tokens == alone.tokens
        assert long.hear().finish_reason is None
        engine.cancel(long.number)
        assert long.wait()[-1].finish_reason == "interrupted"
    assert engine.snapshot().running == engine.snapshot().waiting == 0
    assert engine.snapshot().kv_usage == 0


def test_a_full_queue_refuses(folder: Path) -> None:
    """Two places and one that may wait; when one leaves, the next is welcome again."""
    engine = _engine(folder, limits={"max_waiting": 1})
    with _running(engine):
        clients = [_Client(engine, ENDLESS) for _ in range(3)]
        with pytest.raises(QueueFull, match="3 requests are being answered or wait") as full:
            _Client(engine)
        assert full.value.waiting == 3
        engine.cancel(clients[0].number)
        clients[0].wait()
        _Client(engine)


@pytest.mark.parametrize("params", [SHORT, replace(SHORT, stop_token_ids=tuple(range(PIECES))), ENDLESS])
def test_who_hears_of_the_end_finds_the_place_free(folder: Path, params: SamplingParams) -> None:
    """A client that asks again at once must not be refused because of its own last request."""
    engine = _engine(folder, limits={"batch_size": 1, "max_waiting": 0})
    full: queue.SimpleQueue[tuple[str | None, bool]] = queue.SimpleQueue()
    with _running(engine):
        number = engine.submit(Request((1, 50), params), lambda output: full.put((output.finish_reason, engine.full)))
        while (heard := full.get(timeout=PATIENCE))[0] is None:
            assert heard[1]
            if params is ENDLESS:
                engine.cancel(number)
        assert not heard[1]


def test_what_cannot_be_served_is_refused_at_once(folder: Path) -> None:
    """Before it is anybody's turn: the loop does not even run."""
    engine = _engine(folder, limits={"kv_tokens": 64})
    for prompt, params, words in [
        ((), SHORT, "no tokens"),
        ((1,) * 64, SHORT, "room for the keys and values of 64 .* at most 63"),
        ((PIECES,), SHORT, "outside the vocabulary"),
        ((1,), replace(SHORT, grammar=Grammar("regex", "(")), "grammar"),
    ]:
        with pytest.raises(RequestError, match=words):
            _Client(engine, params, prompt)
    assert engine.snapshot().waiting == 0


def test_stopping_waits_for_the_requests_or_does_not(folder: Path) -> None:
    """Meanwhile, and afterwards, no request is taken that nobody would answer."""
    for now, reason in ((False, "length"), (True, "interrupted")):
        engine = _engine(folder)
        with _running(engine):
            client = _Client(engine, ENDLESS if now else SHORT)
            client.hear()
            engine.stop(now=now)
            with pytest.raises(EngineClosed, match="takes no requests any more"):
                _Client(engine)
            assert client.wait()[-1].finish_reason == reason
        with pytest.raises(EngineClosed):
            _Client(engine)


def test_a_failing_step_fails_all_requests_and_closes(folder: Path) -> None:
    """Those that run and those that wait; clients are not told the reason, the log is."""
    failing = threading.Event()

    def before_step(tokens_W: object) -> None:
        if failing.is_set():
            raise ValueError("the disk is on fire")

    engine = _engine(folder, before_step=before_step)
    with _running(engine) as raised:
        clients = [_Client(engine, ENDLESS) for _ in range(4)]
        clients[0].hear()
        failing.set()
        for client in clients:
            last = client.wait()[-1]
            assert (last.finish_reason, last.error) == ("error", "the engine has failed; its log tells why")
    assert [str(error) for error in raised] == ["the disk is on fire"]
    with pytest.raises(EngineClosed):
        _Client(engine)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_running_out_of_memory_fails_that_batch_and_not_the_engine(
    folder: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = _engine(folder)
    model = engine._runner._model

    def fail_once(*arguments: Any) -> torch.Tensor:
        monkeypatch.undo()
        raise error

    (alone,) = _engine(folder).generate([Request((1, 50), SHORT)])
    monkeypatch.setattr(model, "next_token_logits", fail_once)
    with _running(engine):
        last = _Client(engine).wait()[-1]
        assert (last.finish_reason, last.error) == ("error", "out of memory; send less at a time")
        assert completion_of(_Client(engine).wait()).tokens == alone.tokens
    assert engine.snapshot().kv_usage == 0


def test_log_probabilities_of_the_prompt_are_told_once(folder: Path) -> None:
    """In pieces, and one for each token of the prompt but the first."""
    engine = _engine(folder)
    prompt = tuple(range(1, 41))
    with _running(engine):
        outputs = _Client(engine, replace(SHORT, prompt_logprobs=0, logprobs=0), prompt).wait()
    assert [told.token for output in outputs for told in output.prompt_logprobs] == list(prompt[1:])
    assert [told.token for output in outputs for told in output.logprobs] == [
        token for output in outputs for token in output.tokens
    ]


def test_facts_and_states_come_with_the_steps(folder: Path) -> None:
    facts: list[StepFacts] = []
    engine = _engine(folder, on_facts=facts.append, state=lambda: {"rank": 0})
    with _running(engine):
        _Client(engine, SHORT, (1,) * 20).wait()
    assert [fact.tokens_W for fact in facts[:2]] == [(16,), (4,)]
    assert engine.snapshot().states == ({"rank": 0},)
    assert engine.snapshot().steps == len(facts)


def _served_by(collectives: Collectives, folder: Path) -> list[tuple[int, ...]]:
    """What rank 0's clients, on other threads, were told; one of them is cancelled."""
    engine = _engine(folder, collectives, state=lambda: {"rank": collectives.rank})
    if collectives.rank != 0:
        engine.run()
        assert engine._runner._requests == {}
        return []
    with _running(engine):
        gone = _Client(engine, ENDLESS)
        clients = [_Client(engine, SHORT, (1, 50 + number)) for number in range(6)]
        gone.hear()
        engine.cancel(gone.number)
        tokens = [completion_of(client.wait()).tokens for client in clients]
    assert [state["rank"] for state in engine.snapshot().states] == list(range(collectives.size))
    return tokens


def test_several_ranks_serve_as_one(folder: Path) -> None:
    """The same answers as alone, and no rank keeps anything of a request that is gone."""
    expected = [_engine(folder).generate([Request((1, 50 + number), SHORT)])[0].tokens for number in range(6)]
    assert run_ranks(2, _served_by, folder)[0] == expected
