"""What a user asks for, and what comes back."""

from dataclasses import dataclass
from typing import Literal

from mixtralkit.errors import RequestError

FinishReason = Literal["eos", "stop", "length", "context", "interrupted"]


@dataclass(frozen=True)
class SamplingParams:
    """How to choose tokens and when to stop.

    A `temperature` of 0 takes the likeliest token. Otherwise `top_k` (0: all) and then `top_p` narrow the choice.
    `seed` decides all random draws of the request: the same request gives the same text in any batch and at any world
    size.
    Raises `RequestError` for a value out of range.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check("max_tokens", self.max_tokens, self.max_tokens >= 1, "at least 1")
        _check("temperature", self.temperature, 0 <= self.temperature < float("inf"), "0 (greedy) or more")
        _check("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1")
        _check("top_k", self.top_k, self.top_k >= 0, "0 (all) or more")
        _check("seed", self.seed, 0 <= self.seed < 2**63, "between 0 and 2**63 - 1")
        _check("stop", self.stop, all(self.stop), "strings that are not empty")


@dataclass(frozen=True)
class Request:
    """A prompt in tokens, and what to do with it."""

    prompt_tokens: tuple[int, ...]
    params: SamplingParams

    def check(self, vocab_size: int, context: int) -> None:
        """Raise `RequestError` when a model of this vocabulary and context cannot serve the request."""
        if not self.prompt_tokens:
            raise RequestError("the prompt has no tokens; give it at least one, the start token for instance")
        if len(self.prompt_tokens) >= context:
            raise RequestError(
                f"the prompt has {len(self.prompt_tokens)} tokens, but the model's context is {context} and must "
                f"hold the response too; shorten the prompt to at most {context - 1} tokens"
            )
        outside = [token for token in self.prompt_tokens if not 0 <= token < vocab_size]
        if outside:
            raise RequestError(f"token id {outside[0]} is outside the vocabulary of 0 to {vocab_size - 1}")


@dataclass(frozen=True)
class Completion:
    """The response to one request.

    `tokens` includes the one that ended it, if any; `text` does not, nor anything from a stop string on. `rank` is
    where the request ran.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    rank: int


def _check(name: str, value: object, good: bool, allowed: str) -> None:
    if not good:
        raise RequestError(f"{name} is {value!r}; it must be {allowed}")
