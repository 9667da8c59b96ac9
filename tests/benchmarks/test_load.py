"""What benchmarks/load makes of answers and figures; tests/serve/test_load.py has its clients ask a real server."""

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.load.__main__ import arguments
from benchmarks.load.answers import BrokenAnswer, Choices, events, streamed_answer, whole_answer
from benchmarks.load.client import Client
from benchmarks.load.outcome import Outcome
from benchmarks.load.overload import Crowd
from benchmarks.load.page import page_of
from benchmarks.load.random_bodies import CHAT, Asked, RandomBodies
from benchmarks.load.resources import PAGE_BYTES, Growth, Held, Watch, growth_of, held_by
from benchmarks.load.storm import Aftermath, Storm
from benchmarks.load.tally import Tally
from benchmarks.load.verdicts import MOST_GROWTH, is_flat, overload_verdicts, storm_verdicts
from benchmarks.load.visitor import Unexpected, Visitor, _patience
from mixtralkit.bench.load.load_figures import spread_of
from mixtralkit.serve.openai_schema import ChatRequest, CompletionRequest
from mixtralkit.serve.sampling_fields import sampling_params

LOGPROBS: dict[str, list[Any]] = {
    "tokens": ["a", "b"],
    "token_logprobs": [-1.0, -2.0],
    "top_logprobs": [{}, {}],
    "text_offset": [0, 1],
}
WHOLE = {
    "choices": [
        {"index": 0, "text": "ab", "finish_reason": "length", "token_ids": [5, 6], "logprobs": LOGPROBS},
        {"index": 1, "text": "c", "finish_reason": "stop", "token_ids": [7], "logprobs": None},
    ]
}
CHUNKS: list[dict[str, Any]] = [
    {"choices": [{"index": 1, "text": "c", "finish_reason": "stop", "token_ids": [7], "logprobs": None}]},
    *(
        {
            "choices": [
                {
                    "index": 0,
                    "text": "ab"[at],
                    "finish_reason": (None, "length")[at],
                    "token_ids": [5 + at],
                    "logprobs": {name: [values[at]] for name, values in LOGPROBS.items()},
                }
            ]
        }
        for at in range(2)
    ),
    {"choices": [], "usage": {"completion_tokens": 3}},
]


def streamed(chunks: list[dict[str, Any]], end: str = "data: [DONE]\n\n") -> Choices:
    """The answer of a stream that comes in pieces of seven bytes."""
    sent = ("".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + end).encode()

    async def parts() -> AsyncIterator[bytes]:
        for at in range(0, len(sent), 7):
            yield sent[at : at + 7]

    return asyncio.run(streamed_answer(events(parts())))


def test_a_stream_and_an_answer_in_one_piece_say_the_same() -> None:
    assert streamed(CHUNKS) == whole_answer(json.dumps(WHOLE).encode())


def test_chats_are_compared_too() -> None:
    content = [{"token": "a", "logprob": -1.0}, {"token": "b", "logprob": -2.0}]
    message = {"index": 0, "message": {"content": "ab"}, "finish_reason": "stop", "logprobs": {"content": content}}
    deltas: list[dict[str, Any]] = [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None, "logprobs": None},
        {"index": 0, "delta": {"content": "a"}, "finish_reason": None, "logprobs": {"content": content[:1]}},
        {"index": 0, "delta": {"content": "b"}, "finish_reason": "stop", "logprobs": {"content": content[1:]}},
    ]
    whole = whole_answer(json.dumps({"choices": [message]}).encode())
    assert streamed([{"choices": [delta]} for delta in deltas]) == whole
    assert whole[0].text == "ab"


@pytest.mark.parametrize("place", ["text", "finish_reason", "token_ids", "logprobs"])
def test_whatever_differs_is_seen(place: str) -> None:
    chunks = json.loads(json.dumps(CHUNKS))
    other = {"text": "x", "finish_reason": "stop", "token_ids": [9], "logprobs": {**LOGPROBS, "tokens": ["a", "x"]}}
    chunks[2]["choices"][0][place] = other[place]
    assert streamed(chunks) != whole_answer(json.dumps(WHOLE).encode())


def test_a_stream_that_breaks_off_is_no_answer() -> None:
    with pytest.raises(BrokenAnswer, match="without"):
        streamed(CHUNKS, end="")
    with pytest.raises(BrokenAnswer, match="on fire"):
        streamed([*CHUNKS, {"error": {"message": "on fire"}}])


def test_random_requests_are_such_as_the_server_takes() -> None:
    """All kinds of them are drawn, and equal seeds draw equal ones."""
    drawn = [RandomBodies(random.Random(seed), 3072, 384).draw() for seed in range(400)]
    assert drawn[:20] == [RandomBodies(random.Random(seed), 3072, 384).draw() for seed in range(20)]
    seen: Counter[str] = Counter()
    for asked in drawn:
        model = ChatRequest if asked.path == CHAT else CompletionRequest
        body = model.model_validate_json(asked.body(stream=True))
        assert body.stream
        sampling_params(body, max_tokens=body.max_tokens or 1)
        seen.update(asked.fields.keys())
    assert set(seen) >= {"messages", "n", "stop", "stop_token_ids", "logprobs", "echo", "guided_regex", "logit_bias"}


def visitor(tally: Tally) -> Visitor:
    numbers = random.Random(0)
    return Visitor(Client("http://localhost:1", 1), RandomBodies(numbers, 100, 20), numbers, tally)


def test_answers_that_differ_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([whole_answer(json.dumps(WHOLE).encode()), streamed(CHUNKS[:2])])

    async def answer(self: Visitor, asked: Asked) -> Choices:
        return next(answers)

    monkeypatch.setattr(Visitor, "_whole", answer)
    monkeypatch.setattr(Visitor, "_streamed", answer)
    tally = Tally()
    monkeypatch.setattr("benchmarks.load.visitor.ERRANDS", ((Visitor.asks_twice, 1),))
    asyncio.run(visitor(tally).visit())
    assert tally.counts["problems"] == 1
    assert "the same request got" in tally.problems[0]


def test_a_server_that_is_gone_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.load.visitor.ERRANDS", ((Visitor.asks, 1),))
    tally = Tally()
    asyncio.run(visitor(tally).visit())
    assert "no connection" in tally.problems[0]


@pytest.mark.parametrize(("status", "retry_after"), [(500, None), (429, None), (503, None), (400, 1.0)])
def test_later_is_only_what_says_when(status: int, retry_after: float | None) -> None:
    with pytest.raises(Unexpected):
        _patience(status, retry_after, b"")
    assert _patience(429, 3.0, b"") == 3.0


def series(bytes_per_second: float, seconds: int = 60) -> list[Held]:
    """A process that grows at first by 50 MB, and then so fast."""
    sizes = [10**8 + min(at, 10) * 5 * 10**6 + int(bytes_per_second * at) for at in range(seconds)]
    return [Held(float(at), size, threads=5, files=20) for at, size in enumerate(sizes)]


def test_growth_is_that_after_a_while() -> None:
    growth = growth_of(series(1000.0))
    assert growth.bytes_per_second == pytest.approx(1000)
    assert growth.last_bytes - growth.first_bytes == pytest.approx(1000 * growth.seconds)
    assert growth.peak_bytes == series(1000.0)[-1].resident_bytes
    assert (growth.more_threads, growth.more_files) == (0, 0)


def test_what_counts_as_flat() -> None:
    growth = Growth(80.0, 300e6, 300e6 + MOST_GROWTH, 316_000_000, 0, 0)
    assert is_flat(growth)
    assert not is_flat(replace(growth, last_bytes=growth.last_bytes + 1))


def test_this_process_is_looked_at() -> None:
    held = held_by(os.getpid(), 0.0)
    assert held.resident_bytes > 10 * PAGE_BYTES
    assert held.threads >= 1
    assert held.files >= 3


STORM = Storm(clients=4, lead_in=1.0, seconds=8.0, seed=0, vocabulary=100, longest=20)
REST = {"running": 0, "waiting": 0, "kv_usage": 0.0, "preemptions": 3, "prefix_hits": 9}


def aftermath(**state: float) -> Aftermath:
    watch = Watch([1, 2])
    watch.series = {1: series(0.0), 2: series(10.0)}
    tally = Tally(Counter(compared=7, errands=9))
    return Aftermath(tally, watch, {**REST, **state}, {"running": 4, "waiting": 2, "kv_usage": 0.5, "seconds": 0.1})


def crowds(first: float, then: float, **problems: int) -> tuple[Crowd, Crowd]:
    fitting = Crowd(10, 5.0, 50, {}, {}, spread_of([first]), spread_of([1.0]))
    return fitting, Crowd(100, 5.0, 50, {"429": 30}, problems, spread_of([then]), spread_of([1.0]))


def kept(verdicts: list[Any]) -> list[bool]:
    return [verdict.kept for verdict in verdicts]


def test_verdicts() -> None:
    assert kept(storm_verdicts(aftermath())) == [True] * 4
    assert kept(storm_verdicts(aftermath(kv_usage=0.1))) == [True, False, True, True]
    broken = aftermath()
    broken.tally.problem("of some kind")
    broken.watch.series[2] = [replace(held, files=20 + int(held.at)) for held in series(1e6)]
    assert kept(storm_verdicts(broken)) == [False, True, False, False]
    assert kept(overload_verdicts(crowds(1.0, 1.9))) == [True, True]
    assert kept(overload_verdicts(crowds(1.0, 2.1, what=1))) == [False, False]


def test_the_page_says_what_was_kept() -> None:
    outcome = Outcome(1, ("--kv-tokens=1024",), STORM, aftermath(), crowds(1.0, 3.0))
    text = page_of({"date": "today", "device": "an abacus", "command": "c", "load_average": [1, 2, 3]}, [outcome])
    assert "| first tokens of those let in come at most 2 times later (p99) | 3.00 times | **broken** |" in text
    assert "| no request and no block is left | running: 0, waiting: 0, kv_usage: 0.0 | kept |" in text
    assert "| 100 | 10.0 | 6.0 | 3,000 | 3,000 | 1,000 | 1,000 |" in text
    assert "| launcher | 150.0 | 150.0 | 150.0 | +0.0 | +0 | +0 |" in text


def test_the_command_line() -> None:
    options = arguments(["--ranks", "2,3", "--seconds", "5", "--", "--drafts", "3"])
    assert (options.ranks, options.seconds, options.flags) == ((2, 3), 5.0, ["--drafts", "3"])
    assert arguments([]).flags == ("--kv-tokens=1024",)
