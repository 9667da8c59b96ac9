"""What the engine says of a request as it goes on."""

from collections.abc import Callable
from dataclasses import dataclass

from mixtralkit.engine.logprobs import TokenLogprobs
from mixtralkit.engine.request import FinishReason


@dataclass(frozen=True)
class Output:
    """What is new of request `number`: text that is certain, and the tokens it came with, which may be more or fewer.

    `logprobs` are parallel to `tokens` and `prompt_logprobs` go on with the prompt's tokens (from the second on); both
    are empty unless asked for. With a `finish_reason` this is the last output; `error` tells more if that is "error",
    and `refused` whether it is the request's own fault, so that it would fail again.
    Of the `prompt_tokens`, `cached_tokens` were not computed but found in the cache. `rank` is where the request runs,
    None while it waits.
    """

    number: int
    text: str = ""
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: FinishReason | None = None
    error: str | None = None
    refused: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0
    rank: int | None = None


OnOutput = Callable[[Output], None]
