"""What has to be known of a server before a load test: its model, and which token ids there are."""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mixtralkit.bench.load.answer_stream import error_message
from mixtralkit.bench.load.http_client import HttpClient
from mixtralkit.bench.load.http_connection import HttpFailed
from mixtralkit.bench.load.load_plan import Endpoint, LoadPlan
from mixtralkit.bench.load.load_prompts import WORDS, Pool, nonsense
from mixtralkit.errors import MixtralKitError, UsageError

SAMPLE_WORDS = 500
# Mixtral's unknown, begin and end of text; other models have theirs among the first too, or beyond the last.
CONTROL_TOKENS = 3
UNAUTHORIZED = 401


class TargetError(MixtralKitError):
    """A server that is not there, or does not answer as one of OpenAI's API does."""


@dataclass(frozen=True)
class TargetModel:
    """A model by its name; `context` is the longest prompt plus answer in tokens, None where the server tells none."""

    name: str
    context: int | None


async def target_model(http: HttpClient, name: str | None) -> TargetModel:
    """The model called `name`, which the server may serve without listing it; without a name the first that it lists.

    Raises `TargetError` when the server is not there, wants a key, or lists no model and none is named.
    """
    status, body = await _ask_for_models(http)
    listed = _models(body)
    if name is not None:
        return next((model for model in listed if model.name == name), TargetModel(name, None))
    if not listed:
        raise TargetError(
            f"{http.url}/v1/models answers {status} and lists no model; say --model NAME, if it is a server of "
            "OpenAI's API at all"
        )
    return listed[0]


def check_lengths(plan: LoadPlan, model: TargetModel) -> None:
    """Raise `UsageError` when requests of `plan` may not fit into the context; words count as one token each."""
    if model.context is not None and plan.longest > model.context:
        raise UsageError(
            f"--shared-prefix {plan.shared_prefix}, --input-tokens {plan.input_tokens} and --output-tokens "
            f"{plan.output_tokens} are up to {plan.longest:,} tokens together, but the context of {model.name} is "
            f"{model.context:,}; make one of them smaller"
        )


async def _ask_for_models(http: HttpClient) -> tuple[int, bytes]:
    try:
        status, body = await http.ask("GET", "/v1/models")
    except HttpFailed as error:
        raise TargetError(f"{http.url} cannot be asked: {error}; is the server running there?") from error
    if status == UNAUTHORIZED:
        raise TargetError(
            f"{http.url} wants an API key ({error_message(body)}); "
            "set MIXTRALKIT_API_KEY, or name a file that has it by --api-key-file"
        )
    return status, body


def _models(body: bytes) -> list[TargetModel]:
    listed = [item for item in _field(body, "data") if isinstance(item, dict) and isinstance(item.get("id"), str)]
    return [TargetModel(item["id"], _count(item.get("max_model_len"))) for item in listed]


async def prompt_pool(http: HttpClient, model: str, endpoint: Endpoint, vocab_size: int | None, seed: int) -> Pool:
    """What prompts are made of: token ids, for completions where some are known, or words.

    Ids are those below `vocab_size`, or what the server's /tokenize makes of random words.
    """
    if endpoint is Endpoint.CHAT:
        return WORDS
    if vocab_size is not None:
        return range(CONTROL_TOKENS, vocab_size)
    return await _known_ids(http, model, seed) or WORDS


async def _known_ids(http: HttpClient, model: str, seed: int) -> list[int]:
    """The different ids of some random words, none where there is no /tokenize that answers with ids."""
    sample = nonsense(SAMPLE_WORDS, seed)
    ways = (
        {"prompt": sample, "add_special_tokens": False},  # here and in vLLM
        {"content": sample, "add_special": False},  # llama.cpp's server, which finds no text in the first one
    )
    with suppress(HttpFailed):
        for way in ways:
            _, body = await http.ask("POST", "/tokenize", {"model": model, **way})
            ids = {token for token in _field(body, "tokens") if isinstance(token, int)}
            if ids:
                return sorted(ids)
    return []


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _field(body: bytes, name: str) -> list[Any]:
    """A list in a JSON object, empty where there is none."""
    try:
        found = json.loads(body)[name]
    except (ValueError, KeyError, TypeError):
        return []
    return found if isinstance(found, list) else []
