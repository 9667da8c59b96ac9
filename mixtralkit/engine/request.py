"""What a user asks for, and what comes back. Needs neither torch nor numpy, so that a refusal comes at once."""

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from mixtralkit.engine.allowed import Test, above_0, bias, check, count_or_none, each, number, switch, text, utf8, whole
from mixtralkit.errors import RequestError

if TYPE_CHECKING:
    from mixtralkit.engine.logprobs import TokenLogprobs

FinishReason = Literal["eos", "stop", "length", "context", "interrupted", "error"]
GrammarKind = Literal["json_schema", "json_object", "regex"]
SEEDS = 2**63
LONGEST_GRAMMAR = 64 * 1024  # bytes: what a real schema needs many times over


@dataclass(frozen=True)
class Grammar:
    """What a response must look like: a JSON document of a schema, any JSON object, or a regular expression.

    `text` is the JSON schema, nothing (""), or the expression, which the whole response matches. Expressions are those
    of Rust's regex crate: without look-around and backreferences, and with Unicode's digits, letters and spaces.
    Raises `RequestError` for another kind or a text that is too long; `Grammars.check` looks into the text.
    """

    kind: GrammarKind
    text: str = ""

    def __post_init__(self) -> None:
        kinds = get_args(GrammarKind)
        check("grammar kind", self.kind, self.kind in kinds, "one of " + ", ".join(kinds))
        check("grammar text", self.text, isinstance(self.text, str), "a string (of a JSON schema json.dumps gives it)")
        if not utf8(self.text, LONGEST_GRAMMAR):
            raise RequestError(
                f"the grammar is too long or no proper text; at most {LONGEST_GRAMMAR} bytes are possible"
            )
        if bool(self.text) == (self.kind == "json_object"):
            raise RequestError(
                "grammar json_object takes no text; give a json_schema to say what the object holds"
                if self.text
                else f"grammar {self.kind} has no text; give the {self.kind.replace('_', ' ').replace('json', 'JSON')}"
            )


PENALTY = (number(-2, 2), "between -2 and 2")
ALLOWED: dict[str, tuple[Test, str]] = {
    "max_tokens": (whole(1), "at least 1"),
    "temperature": (number(0, math.inf), "0 (greedy) or more"),
    "top_p": (above_0(1), "above 0 and at most 1"),
    "top_k": (whole(0), "0 (all) or more"),
    "min_p": (number(0, 1), "between 0 (all) and 1"),
    "seed": (whole(0, 2**63 - 1), "between 0 and 2**63 - 1"),
    "stop": (each(text), "strings that are not empty"),
    "stop_token_ids": (each(whole(0)), "token ids"),
    "ignore_eos": (switch, "true or false"),
    "min_tokens": (whole(0), "0 or more"),
    "repetition_penalty": (number(0.01, 100), "between 0.01 and 100; 1 is none"),
    "presence_penalty": PENALTY,
    "frequency_penalty": PENALTY,
    "logit_bias": (each(bias), "pairs of a token id and a bias between -100 and 100"),
    "logprobs": (count_or_none, "0 or more, or None"),
    "prompt_logprobs": (count_or_none, "0 or more, or None"),
    "grammar": (lambda value: value is None or isinstance(value, Grammar), "a Grammar or None"),
}
FRACTIONS = {"temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"}


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How to choose tokens and when to stop.

    A `temperature` of 0 takes the likeliest token. Otherwise `min_p`, `top_k` (0: all) and then `top_p` narrow the
    choice. `seed` decides all random draws of the request: the same request gives the same text in any batch and at
    any world size.

    `stop` strings and `stop_token_ids` end the response; with `ignore_eos` the EOS token does not. Neither of these
    tokens is chosen before there are `min_tokens`. `repetition_penalty` counts prompt and response, the other two
    the response only; `logit_bias` is pairs of a token id and what is added to its logit. `logprobs` and
    `prompt_logprobs` ask for the log probability of every token, and of so many likeliest alternatives to each.
    `stop` may also be given as one string, sequences as lists and `logit_bias` as a dict.

    Raises `RequestError` for a value out of range; its message begins with the field's name.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    min_tokens: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    grammar: Grammar | None = None

    def __post_init__(self) -> None:
        for field, plain in (("stop", _strings), ("stop_token_ids", _tuple), ("logit_bias", _pairs)):
            object.__setattr__(self, field, plain(getattr(self, field)))
        for field, (good, allowed) in ALLOWED.items():
            value = getattr(self, field)
            check(field, value, good(value), allowed)
            if field in FRACTIONS:
                object.__setattr__(self, field, float(value))
        at_most = f"at most max_tokens, {self.max_tokens}"
        check("min_tokens", self.min_tokens, self.min_tokens <= self.max_tokens, at_most)

    def nth(self, place: int) -> "SamplingParams":
        """The same for request `place` of several that were asked for together: it draws with a seed of its own."""
        return replace(self, seed=(self.seed + place) % SEEDS)

    def to_json(self) -> dict[str, Any]:
        """What differs from the defaults, as JSON can say it."""
        told = asdict(self)
        return {field.name: told[field.name] for field in fields(self) if getattr(self, field.name) != field.default}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> "SamplingParams":
        """What `to_json` told."""
        grammar = told.get("grammar")
        return cls(**{**told, "grammar": Grammar(**grammar) if grammar else None})


@dataclass(frozen=True)
class Request:
    """A prompt in tokens, and what to do with it. Of those that wait, a smaller `priority` comes first.

    With `continues` the response's text goes on from the prompt's, so that its first word keeps the space before it;
    a response that follows a grammar never does.
    """

    prompt_tokens: tuple[int, ...]
    params: SamplingParams
    priority: int = 0
    continues: bool = False

    def check(self, vocab_size: int, context: int, room: int | None = None) -> None:
        """Raise `RequestError` when a model of this vocabulary and context cannot serve the request.

        `room` is for how many tokens of a request there is room, None for the whole context.
        """
        if not self.prompt_tokens:
            raise RequestError("the prompt has no tokens; give it at least one, the start token for instance")
        _check_length(len(self.prompt_tokens), context, context if room is None else room)
        biased = tuple(token for token, _ in self.params.logit_bias)
        for what, tokens in (
            ("", self.prompt_tokens),
            ("stop_token_ids: ", self.params.stop_token_ids),
            ("logit_bias: ", biased),
        ):
            outside = [token for token in tokens if not 0 <= token < vocab_size]
            if outside:
                raise RequestError(f"{what}token id {outside[0]} is outside the vocabulary of 0 to {vocab_size - 1}")
        for name, count in (("logprobs", self.params.logprobs), ("prompt_logprobs", self.params.prompt_logprobs)):
            check(name, count, (count or 0) <= vocab_size, f"at most the vocabulary's size, {vocab_size}")


class QueueFull(RequestError):
    """So many requests (`waiting`) are being answered or wait already that no more are taken."""

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} requests are being answered or wait already; try again later")
        self.waiting = waiting


class EngineClosed(RequestError):
    """The engine takes no requests any more."""


@dataclass(frozen=True)
class Completion:
    """The response to one request.

    `tokens` includes the one that ended it, if any; `text` does not, nor anything from a stop string on. Of the
    `prompt_tokens`, `cached_tokens` were found in the cache. `rank` is where the request ran, None if nowhere.
    `logprobs` are parallel to `tokens`, `prompt_logprobs` to the prompt's tokens from the second on, where they were
    asked for. `error` says what went wrong if that is why it ended.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    rank: int | None
    cached_tokens: int = 0
    logprobs: "tuple[TokenLogprobs, ...]" = ()
    prompt_logprobs: "tuple[TokenLogprobs, ...]" = ()
    error: str | None = None


def _check_length(length: int, context: int, room: int) -> None:
    if length < room:
        return
    limit = f"the model's context is {context}"
    if room < context:
        limit = f"there is room for the keys and values of {room} (kv_tokens; {limit})"
    raise RequestError(
        f"the prompt has {length} tokens, but {limit} and must hold the response too; shorten the prompt to at most "
        f"{room - 1} tokens"
    )


def _strings(value: Any) -> Any:
    return (value,) if isinstance(value, str) else _tuple(value)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _pairs(value: Any) -> Any:
    pairs = value.items() if isinstance(value, dict) else value
    return tuple(_tuple(pair) for pair in pairs) if isinstance(value, dict | list | tuple) else value
