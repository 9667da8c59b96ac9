"""When the outputs of one HTTP request come, for the metrics; everything counts from its arrival."""

import time

from mixtralkit.engine.output import Output
from mixtralkit.serve.metrics import Metrics
from mixtralkit.serve.request_facts import RequestFacts

_REASONS = {"eos": "stop", "stop": "stop", "length": "length", "context": "length", "interrupted": "abort"}


class RequestTimes:
    """Observes the outputs of the engine requests behind `facts`, each by its index."""

    def __init__(self, metrics: Metrics, facts: RequestFacts) -> None:
        self._metrics = metrics
        self._last: dict[int, float] = {}
        self.facts = facts

    def note(self, index: int, output: Output) -> None:
        """Take an output that has just come."""
        now = time.perf_counter()
        if output.tokens:
            self._note_tokens(index, now, output)
        if output.finish_reason is not None:
            self._metrics.finished(_REASONS.get(output.finish_reason, "error"), now - self.facts.arrived)

    def give_up(self, count: int) -> None:
        """So many requests are not answered to their end."""
        for _ in range(count):
            self._metrics.finished("abort", self.facts.seconds)

    def complete(self) -> None:
        """All the responses have come to their end."""
        self._metrics.answered += 1

    def _note_tokens(self, index: int, now: float, output: Output) -> None:
        if index not in self._last:
            self._metrics.first_token.observe(now - self.facts.arrived)
            self._metrics.prompt_tokens += output.prompt_tokens
        else:
            self._metrics.between_tokens.observe(now - self._last[index])
        self._last[index] = now
        self._metrics.generated_tokens += len(output.tokens)
        self.facts.output_tokens += len(output.tokens)
