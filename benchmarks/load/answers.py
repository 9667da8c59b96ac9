"""What an answer says, be it one document or a stream, in a form in which the two can be compared."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from mixtralkit.bench.load.stream_events import EventParser

DONE = b"[DONE]"


class BrokenAnswer(Exception):
    """A stream that carries an error or ends too soon."""


@dataclass
class Choice:
    """One response: with token ids and scores where they were asked for."""

    text: str = ""
    finish_reason: str | None = None
    token_ids: list[int] = field(default_factory=list)
    scores: list[Any] = field(default_factory=list)

    def take(self, told: dict[str, Any]) -> None:
        """Take a choice of a chunk, or of a whole answer."""
        said = told.get("delta") or told.get("message") or {}
        self.text += told.get("text") or said.get("content") or ""
        self.finish_reason = told.get("finish_reason") or self.finish_reason
        self.token_ids += told.get("token_ids") or ()
        self.scores += _scores(told.get("logprobs") or {})


Choices = dict[int, Choice]  # by their index


def whole_answer(body: bytes) -> Choices:
    """The choices of an answer in one piece."""
    choices: Choices = {}
    _take(choices, json.loads(body))
    return choices


async def events(parts: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """The documents of a stream, as they come. Raises `BrokenAnswer`."""
    parser = EventParser()
    ended = False
    async for part in parts:
        for event in parser.push(part):
            if event == DONE:
                ended = True
                continue
            document = json.loads(event)
            if "error" in document:
                raise BrokenAnswer(document["error"]["message"])
            yield document
    if not ended:
        raise BrokenAnswer("the stream ended without [DONE]")


async def streamed_answer(documents: AsyncIterator[dict[str, Any]]) -> Choices:
    """The choices of a stream, put together. Raises `BrokenAnswer`."""
    choices: Choices = {}
    async for document in documents:
        _take(choices, document)
    return choices


def _take(choices: Choices, document: dict[str, Any]) -> None:
    for told in document["choices"]:
        choices.setdefault(told["index"], Choice()).take(told)


def _scores(logprobs: dict[str, Any]) -> list[Any]:
    """One entry a token, of either route."""
    if "content" in logprobs:
        return list(logprobs["content"])
    names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    return list(zip(*(logprobs.get(name, ()) for name in names), strict=True))
