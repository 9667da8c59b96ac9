"""How many tokens an answer has cost."""

from dataclasses import dataclass, field
from typing import Any

from mixtralkit.engine.output import Output


@dataclass
class Usage:
    """The tokens of the prompts, each counted once whatever n is, and of the responses so far.

    Without `generates` the responses' tokens do not count: they are not told.
    """

    prompt_tokens: int
    alternatives: int = 1
    generates: bool = True
    completion_tokens: int = 0
    _cached: dict[int, int] = field(default_factory=dict)

    def note(self, index: int, output: Output) -> None:
        """Take an output of the engine request `index`; those of one prompt follow each other."""
        self.completion_tokens += len(output.tokens) * self.generates
        if index % self.alternatives == 0:
            self._cached[index] = output.cached_tokens

    def document(self) -> dict[str, Any]:
        """As OpenAI's API tells it."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": sum(self._cached.values())},
        }
