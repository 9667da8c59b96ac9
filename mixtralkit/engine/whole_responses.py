"""Collects the outputs of a list of requests into completions."""

import functools
import threading
from collections.abc import Callable, Sequence

from mixtralkit.engine.output import OnOutput, Output
from mixtralkit.engine.request import Completion, Request
from mixtralkit.errors import RequestError

OnText = Callable[[int, str], None]
OnCompletion = Callable[[int, Completion], None]


class WholeResponses:
    """Requests go by their place in the list here."""

    def __init__(self, on_text: OnText | None = None, on_completion: OnCompletion | None = None) -> None:
        self._on_text = on_text
        self._on_completion = on_completion
        self._outputs: list[list[Output]] = []
        self._completions: dict[int, Completion] = {}
        self._ended = threading.Semaphore(0)

    def submit_all(self, requests: Sequence[Request], submit: Callable[[Request, OnOutput], int]) -> list[int]:
        """Hand in all requests; returns their numbers in the engine."""
        self._outputs = [[] for _ in requests]
        return [submit(request, functools.partial(self._take, place)) for place, request in enumerate(requests)]

    def wait(self) -> None:
        """Wait until all have ended."""
        for _ in self._outputs:
            self._ended.acquire()

    def completions(self) -> list[Completion]:
        """The completions, in the order of the requests; those interrupted before they ran are left out.

        Raises `RequestError` when one has failed.
        """
        completions = [self._completions[place] for place in sorted(self._completions)]
        for completion in completions:
            if completion.error is not None:
                raise RequestError(completion.error)
        return completions

    def _take(self, place: int, output: Output) -> None:
        self._outputs[place].append(output)
        if output.text and self._on_text is not None:
            self._on_text(place, output.text)
        if output.finish_reason:
            self._end(place, output)
            self._ended.release()

    def _end(self, place: int, last: Output) -> None:
        if last.finish_reason == "interrupted" and last.rank is None:
            return
        completion = self._completions[place] = completion_of(self._outputs[place])
        if self._on_completion is not None and completion.error is None:
            self._on_completion(place, completion)


def completion_of(outputs: Sequence[Output]) -> Completion:
    """All outputs of one request as one; the last has the reason why it ended."""
    last = outputs[-1]
    assert last.finish_reason is not None, "the last output says why"
    return Completion(
        text="".join(output.text for output in outputs),
        tokens=tuple(token for output in outputs for token in output.tokens),
        finish_reason=last.finish_reason,
        prompt_tokens=last.prompt_tokens,
        rank=last.rank,
        cached_tokens=last.cached_tokens,
        logprobs=tuple(told for output in outputs for told in output.logprobs),
        prompt_logprobs=tuple(told for output in outputs for told in output.prompt_logprobs),
        error=last.error,
    )
