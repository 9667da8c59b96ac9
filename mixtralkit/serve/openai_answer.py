"""The frame of an answer of either of OpenAI's routes: choices that grow by deltas, in chunks or in one piece."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from mixtralkit.engine.output import Output
from mixtralkit.engine.request import FinishReason
from mixtralkit.serve.openai_logprobs import Told
from mixtralkit.serve.openai_schema import SamplingFields
from mixtralkit.serve.outputs import Outputs
from mixtralkit.serve.stream import Documents
from mixtralkit.serve.usage import Usage

FINISH: dict[FinishReason | None, str | None] = {
    None: None,
    "eos": "stop",
    "stop": "stop",
    "length": "length",
    "context": "length",
}


class Choice(Protocol):
    """One response as it grows."""

    def add(self, output: Output) -> Told | None:
        """Take an output; returns the choice of the chunk that tells what is new, None where nothing is."""

    def merge(self, deltas: Sequence[Told]) -> Told:
        """The choice of an answer in one piece, from those of all the chunks."""


class OpenAIAnswer:
    """`kind` names the object of a chunk and of the whole; `choices` are in the order of the engine requests."""

    def __init__(
        self,
        name: str,
        kinds: tuple[str, str],
        model: str,
        choices: Sequence[Choice],
        usage: Usage,
        body: SamplingFields,
    ) -> None:
        self._chunk_kind, self._whole_kind = kinds
        self._frame = {"id": name, "object": "", "created": int(time.time()), "model": model}
        self._choices = choices
        self._usage = usage
        options = body.stream_options
        self._tells_usage = bool(options and options.include_usage)
        self._tells_usage_always = bool(options and options.continuous_usage_stats)

    async def whole(self, outputs: Outputs) -> Told:
        """The answer when everything is there."""
        deltas: list[list[Told]] = [[] for _ in self._choices]
        async for index, delta in self._deltas(outputs):
            deltas[index].append(delta)
        choices = [choice.merge(told) for choice, told in zip(self._choices, deltas, strict=True)]
        return self._document(self._whole_kind, choices, self._usage.document())

    async def stream(self, outputs: Outputs) -> Documents:
        """The answer in chunks, as its parts come."""
        async for _, delta in self._deltas(outputs):
            yield self._chunk([delta])
        if self._tells_usage:
            yield self._document(self._chunk_kind, [], self._usage.document())

    async def _deltas(self, outputs: Outputs) -> AsyncIterator[tuple[int, Told]]:
        async for index, output in outputs:
            self._usage.note(index, output)
            delta = self._choices[index].add(output)
            if delta is not None:
                yield index, delta

    def _chunk(self, choices: list[Told]) -> Told:
        if not self._tells_usage and not self._tells_usage_always:
            return self._document(self._chunk_kind, choices)
        return self._document(self._chunk_kind, choices, self._usage.document() if self._tells_usage_always else None)

    def _document(self, kind: str, choices: list[Told], *usage: Told | None) -> Told:
        document = {**self._frame, "object": kind, "choices": choices}
        return {**document, "usage": usage[0]} if usage else document
