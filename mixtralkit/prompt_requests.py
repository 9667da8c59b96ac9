"""From what Python code asks for to requests: prompts are texts or token ids, one or several."""

import math
from collections.abc import Sequence
from typing import Any, cast

from mixtralkit.engine.allowed import check, each, whole
from mixtralkit.engine.request import Request, SamplingParams
from mixtralkit.errors import UsageError
from mixtralkit.tokenizer import Tokenizer

Prompt = str | Sequence[int]  # text, or token ids, which begin with BOS where the model wants one

_ids = each(whole(-math.inf))  # the model's vocabulary bounds them, in `Request.check`


def requests_of(
    tokenizer: Tokenizer,
    prompts: Prompt | Sequence[Prompt],
    params: SamplingParams | Sequence[SamplingParams] | None = None,
) -> list[Request]:
    """A request for each prompt, or for the only one.

    `params` is for all prompts, prompt i then drawing with the seed `params.seed` + i, or one for each.
    Raises `RequestError` for what is no prompt or no parameters, `UsageError` for as many as do not go together.
    """
    every = _every_prompt(tokenizer, prompts)
    own_params = _each_params(params, len(every))
    return [Request(tokens, own) for tokens, own in zip(every, own_params, strict=True)]


def request_of(tokenizer: Tokenizer, prompt: Prompt, params: SamplingParams | None = None) -> Request:
    """The request of one prompt. Raises `RequestError` as `requests_of` does."""
    check("params", params, params is None or isinstance(params, SamplingParams), "SamplingParams or None")
    return Request(_tokens("prompt", tokenizer, prompt), params or SamplingParams())


def _every_prompt(tokenizer: Tokenizer, prompts: Prompt | Sequence[Prompt]) -> list[tuple[int, ...]]:
    if isinstance(prompts, str) or (_is_list(prompts) and prompts and isinstance(prompts[0], int)):
        return [_tokens("prompts", tokenizer, cast(Prompt, prompts))]
    check("prompts", prompts, _is_list(prompts), "a text, a list of token ids, or a list of either")
    several = cast(Sequence[Prompt], prompts)
    return [_tokens(f"prompts[{place}]", tokenizer, prompt) for place, prompt in enumerate(several)]


def _tokens(name: str, tokenizer: Tokenizer, prompt: Prompt) -> tuple[int, ...]:
    if isinstance(prompt, str):
        return tuple(tokenizer.encode(prompt))
    check(name, prompt, _is_list(prompt) and _ids(tuple(prompt)), "a text or a list of token ids")
    return tuple(prompt)


def _each_params(params: SamplingParams | Sequence[SamplingParams] | None, count: int) -> list[SamplingParams]:
    if params is None or isinstance(params, SamplingParams):
        return [(params or SamplingParams()).nth(place) for place in range(count)]
    good = _is_list(params) and all(isinstance(own, SamplingParams) for own in params)
    check("params", params, good, "SamplingParams, or a list of them, one for each prompt")
    if len(params) != count:
        raise UsageError(f"there are {count} prompts and {len(params)} parameters; give one or as many")
    return list(params)


def _is_list(value: Any) -> bool:
    """Whether it is a sequence that is no text: bytes are one of numbers, but are meant as text."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)
