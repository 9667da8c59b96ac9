"""From the fields of an OpenAI request to the engine's parameters."""

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from mixtralkit.engine.request import Grammar, SamplingParams
from mixtralkit.log import get_logger
from mixtralkit.serve.http_errors import HttpError
from mixtralkit.serve.openai_schema import REFUSED, ResponseFormat, SamplingFields, StructuredOutputs

_logger = get_logger(__name__)
_SEEDS = 1 << 63
_LONGEST_NAME = 64
_MOST_NAMES = 256  # of ignored fields that are remembered: clients choose them


class IgnoredFields:
    """Says once for each name that a field is ignored."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def look_at(self, body: BaseModel) -> None:
        """Take in the fields that are not in the schema. Raises `HttpError` 400 for one that must not be ignored."""
        for name, value in (body.model_extra or {}).items():
            if name in REFUSED and value not in REFUSED[name]:
                raise HttpError(
                    400, f"{name} is not supported by this server", param=name, code="unsupported_parameter"
                )
            if name not in REFUSED:
                self._note(name)
        for place, part in _parts(body):
            for name in part.model_extra or {}:
                self._note(f"{place}.{name}")

    def _note(self, name: str) -> None:
        name = name[:_LONGEST_NAME]
        if name not in self._names and len(self._names) < _MOST_NAMES:
            self._names.add(name)
            _logger.warning("the field %s of requests is ignored", json.dumps(name))


def _parts(body: BaseModel, place: str = "") -> Iterator[tuple[str, BaseModel]]:
    """The objects within a body, at any depth, and where they are, such as "messages.content"."""
    for name, value in body.__dict__.items():
        for part in value if isinstance(value, list) and value and isinstance(value[0], BaseModel) else [value]:
            if isinstance(part, BaseModel):
                yield place + name, part
                yield from _parts(part, f"{place}{name}.")


def check_alternatives(fields: SamplingFields) -> None:
    """Raise `HttpError` 400 for best_of: several are generated with n, and all are returned."""
    if fields.best_of not in (None, fields.n or 1):
        raise HttpError(
            400,
            "best_of: only n responses are generated, and all are returned; use n alone",
            param="best_of",
            code="unsupported_parameter",
        )


def sampling_params(
    fields: SamplingFields, *, max_tokens: int, logprobs: int | None = None, prompt_logprobs: int | None = None
) -> SamplingParams:
    """The parameters of the first of the n responses. A request without a seed gets one by chance.

    Raises `RequestError` or `HttpError` 400.
    """
    return SamplingParams(
        max_tokens=max(max_tokens, 1),  # for 0 the caller takes the prompt only
        temperature=1.0 if fields.temperature is None else fields.temperature,
        top_p=1.0 if fields.top_p is None else fields.top_p,
        top_k=max(fields.top_k or 0, 0),  # vLLM's -1 means all, too
        min_p=fields.min_p or 0.0,
        seed=drawn_seed(fields.seed),
        stop=(fields.stop,) if isinstance(fields.stop, str) else tuple(fields.stop or ()),
        stop_token_ids=tuple(fields.stop_token_ids or ()),
        ignore_eos=bool(fields.ignore_eos),
        min_tokens=fields.min_tokens or 0,
        repetition_penalty=1.0 if fields.repetition_penalty is None else fields.repetition_penalty,
        presence_penalty=fields.presence_penalty or 0.0,
        frequency_penalty=fields.frequency_penalty or 0.0,
        logit_bias=tuple((fields.logit_bias or {}).items()),
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        grammar=_grammar(fields),
    )


def drawn_seed(seed: int | None) -> int:
    """The engine's seed: what the client gave, where a negative one is possible, or one by chance."""
    return secrets.randbelow(_SEEDS) if seed is None else seed % _SEEDS


def nth(params: SamplingParams, index: int) -> SamplingParams:
    """The parameters of one of the n responses: they differ in their seed."""
    return replace(params, seed=(params.seed + index) % _SEEDS)


def _grammar(fields: SamplingFields) -> Grammar | None:
    """What the response must look like; at most one of the ways to say so may be used."""
    asked = dict(_grammars(fields))
    if len(asked) > 1:
        first, second, *_ = asked
        raise HttpError(400, f"{second}: {first} says already what to write; use one of them", param=second)
    return next(iter(asked.values()), None)


def _grammars(fields: SamplingFields) -> Iterator[tuple[str, Grammar]]:
    """What each field asks for."""
    if fields.response_format is not None and fields.response_format.type != "text":
        yield "response_format", _of_response_format(fields.response_format)
    if fields.structured_outputs is not None:
        yield "structured_outputs", _of_structured_outputs(fields.structured_outputs)
    if fields.guided_json is not None:
        yield "guided_json", _json(fields.guided_json)
    if fields.guided_regex is not None:
        yield "guided_regex", Grammar("regex", fields.guided_regex)


def _of_structured_outputs(asked: StructuredOutputs) -> Grammar:
    if asked.json_ is not None:
        return _json(asked.json_)
    return Grammar("json_object") if asked.regex is None else Grammar("regex", asked.regex)


def _of_response_format(asked: ResponseFormat) -> Grammar:
    if asked.type == "json_object":
        return Grammar("json_object")
    if asked.json_schema is None:
        raise HttpError(400, "response_format: type json_schema needs json_schema", param="response_format")
    return _json(asked.json_schema.schema_)


def _json(schema: Mapping[str, Any] | str) -> Grammar:
    return Grammar("json_schema", schema if isinstance(schema, str) else json.dumps(schema))
