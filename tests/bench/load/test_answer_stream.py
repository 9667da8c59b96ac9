"""What the events of an answer come to, as this server, OpenAI, vLLM and llama.cpp's server send them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtralkit.bench.load.answer_stream import AnswerStream, BadStream, error_message

DONE = b"[DONE]"
NAMES = "choices", "delta", "text", "content", "role", "finish_reason", "usage", "error", "completion_tokens"
FIELDS = st.sampled_from(NAMES)


def text(words: str | None, end: str | None = None) -> bytes:
    return json.dumps({"choices": [{"index": 0, "text": words, "finish_reason": end}], "usage": None}).encode()


def delta(end: str | None = None, **delta: Any) -> bytes:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": end}]}).encode()


def usage(prompt: int, completion: int) -> bytes:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion}
    return json.dumps({"choices": [], "usage": counts}).encode()


def read(*events: tuple[float, bytes], end: float = 9.0) -> Any:
    stream = AnswerStream(1.0, asked_tokens=3)
    pieces = [stream.take(event, now) for now, event in events]
    return pieces, stream.answer(end)


def test_times_count_from_the_start_to_each_piece() -> None:
    pieces, answer = read(
        (2.0, text("a")), (2.5, text("b")), (4.0, text("c", "length")), (4.0, usage(7, 3)), (4.0, DONE)
    )
    assert pieces == [True, True, True, False, False]
    assert (answer.first, answer.gaps, answer.latency) == (1.0, (0.5, 1.5), 8.0)
    assert (answer.prompt_tokens, answer.output_tokens, answer.usage) == (7, 3, True)


def test_a_chat_begins_with_its_first_words_and_not_with_its_role() -> None:
    events = (
        (1.1, delta(role="assistant", content="")),
        (3.0, delta(content="a")),
        (4.0, delta(content="b")),
        (5.0, delta("stop")),
        (5.0, DONE),
    )
    pieces, answer = read(*events)
    assert pieces == [False, True, True, False, False]
    assert (answer.first, answer.gaps, answer.output_tokens, answer.usage) == (2.0, (1.0,), 2, False)


def test_thoughts_are_output() -> None:
    pieces, _ = read((2.0, delta(reasoning_content="hm", content=None)), (3.0, delta("stop", content="yes")))
    assert pieces == [True, True]


def test_a_token_without_text_counts_and_an_empty_end_does_not() -> None:
    """A byte of a longer character has no text yet; llama.cpp's server ends with a chunk of its own."""
    pieces, answer = read((2.0, text("")), (3.0, text("é")), (3.5, text("", "length")))
    assert pieces == [True, True, False]
    assert (answer.first, answer.output_tokens) == (1.0, 2)


def test_an_answer_without_any_text_begins_at_its_end() -> None:
    _, answer = read((2.0, text("", "stop")), (2.0, usage(7, 1)), (2.0, DONE), end=3.0)
    assert (answer.first, answer.latency, answer.output_tokens) == (2.0, 2.0, 1)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (b'{"error": {"message": "a rank is gone"}}', "a rank is gone"),
        (b'{"error": "plain"}', "plain"),
        (b"oops", "no JSON object: b'oops'"),
        (b"[1]", "no JSON object"),
    ],
)
def test_errors_in_the_stream(event: bytes, message: str) -> None:
    with pytest.raises(BadStream, match=message):
        AnswerStream(0.0, 1).take(event, 1.0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(FIELDS, JSON, max_size=5), max_size=4))
def test_whatever_a_server_sends_is_an_answer_or_a_bad_stream(chunks: list[dict[str, Any]]) -> None:
    stream = AnswerStream(0.0, 1)
    try:
        for now, chunk in enumerate(chunks):
            stream.take(json.dumps(chunk).encode(), float(now))
        answer = stream.answer(9.0)
    except BadStream:
        return
    assert answer.output_tokens == int(answer.output_tokens)


def test_a_stream_that_ends_in_its_middle_is_no_answer() -> None:
    stream = AnswerStream(0.0, 2)
    stream.take(text("a"), 1.0)
    with pytest.raises(BadStream, match="ended before the answer"):
        stream.answer(2.0)


def test_error_messages_are_one_short_line() -> None:
    assert error_message(b'{"error": {"message": "come back\\n  later"}}') == "come back later"
    assert error_message(b"<html>\n" + b"x" * 1000) == "<html> " + "x" * 293
    assert error_message(b"\xff") == "\N{REPLACEMENT CHARACTER}"
    assert error_message(b"") == "(no message)"
    assert error_message(b'{"detail": "vague"}') == '{"detail": "vague"}'
