"""The streamed answer to one request: what its events say, and when they came."""

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

DONE = b"[DONE]"


class BadStream(Exception):
    """A stream that carries an error, or that is not what a streamed answer looks like."""


@dataclass(frozen=True)
class Answer:
    """A complete answer. Times are in seconds: `started` since the run began, `first` and `latency` since `started`,
    `gaps` between one piece of text and the next.

    `first` is the time to the first token. Without `usage` the server did not say how many tokens there are:
    `output_tokens` are then the pieces that came, and `prompt_tokens` is None.
    """

    started: float
    first: float
    latency: float
    gaps: tuple[float, ...]
    prompt_tokens: int | None
    output_tokens: int
    asked_tokens: int
    usage: bool


class AnswerStream:
    """Takes the events of an answer that was asked for at the time `started`."""

    def __init__(self, started: float, asked_tokens: int) -> None:
        self._started = started
        self._asked_tokens = asked_tokens
        self._times: list[float] = []
        self._usage: dict[str, Any] | None = None
        self._ended = False

    def take(self, event: bytes, now: float) -> bool:
        """Take the data of an event that came at the time `now`; whether it is a piece of the answer.

        Raises `BadStream` for an error of the server's, and for what is no chunk of an answer.
        """
        if event == DONE:
            self._ended = True
            return False
        chunk = _object(event)
        if chunk.get("error"):
            raise BadStream(error_message(event))
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
        choice = _choice(chunk)
        self._ended |= bool(choice.get("finish_reason"))
        if not _has_output(choice):
            return False
        self._times.append(now)
        return True

    def answer(self, now: float) -> Answer:
        """The whole, after the last event; `now` is when the response ended.

        Raises `BadStream` when the stream ended in its middle.
        """
        if not self._ended:
            raise BadStream("the stream ended before the answer did")
        usage = self._usage or {}
        prompt_tokens, output_tokens = (_count(usage.get(f"{name}_tokens")) for name in ("prompt", "completion"))
        first = self._times[0] if self._times else now
        gaps = (later - earlier for earlier, later in pairwise(self._times))
        return Answer(
            started=self._started,
            first=first - self._started,
            latency=now - self._started,
            gaps=tuple(gaps),
            prompt_tokens=prompt_tokens,
            output_tokens=len(self._times) if output_tokens is None else output_tokens,
            asked_tokens=self._asked_tokens,
            usage=output_tokens is not None,
        )


def error_message(body: bytes) -> str:
    """What a server's error says, in one line: OpenAI's `error.message`, or the beginning of the text."""
    try:
        error = json.loads(body)["error"]
        message = error["message"] if isinstance(error, dict) else error
    except (ValueError, KeyError, TypeError):
        message = body.decode("utf-8", errors="replace")
    return " ".join(str(message).split())[:300] or "(no message)"


def _object(event: bytes) -> dict[str, Any]:
    try:
        chunk = json.loads(event)
    except ValueError:
        chunk = None
    if not isinstance(chunk, dict):
        raise BadStream(f"an event is no JSON object: {event[:100]!r}")
    return chunk


def _choice(chunk: dict[str, Any]) -> dict[str, Any]:
    """The only choice of a chunk; the chunk with the usage has none."""
    choices = chunk.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _has_output(choice: dict[str, Any]) -> bool:
    """Whether a chunk stands for a token: it has text, or at least says that there is none, as for a part of a letter.

    The first chunk of a chat, with the role, and the last one, with the reason of the end, do not when they are empty.
    """
    delta = choice.get("delta")
    delta = delta if isinstance(delta, dict) else {}
    text = choice.get("text", delta.get("content") or delta.get("reasoning_content") or delta.get("content"))
    return bool(text) or (text is not None and not delta.get("role") and not choice.get("finish_reason"))
