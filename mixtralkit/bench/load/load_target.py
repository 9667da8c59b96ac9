"""What has to be known of a server before a load test: its model, and which token ids there are."""

import json
from typing import Any

from mixtralkit.bench.load.answer_stream import error_message
from mixtralkit.bench.load.http_client import HttpClient
from mixtralkit.bench.load.http_connection import HttpFailed
from mixtralkit.bench.load.load_plan import Endpoint
from mixtralkit.bench.load.load_prompts import WORDS, Pool, nonsense
from mixtralkit.errors import MixtralKitError

SAMPLE_WORDS = 500
# Mixtral's unknown, begin and end of text; other models have theirs among the first too, or beyond the last.
CONTROL_TOKENS = 3
UNAUTHORIZED = 401


class TargetError(MixtralKitError):
    """A server that is not there, or does not answer as one of OpenAI's API does."""


async def first_model(http: HttpClient) -> str:
    """The name of the first model that the server lists; raises `TargetError` when it lists none."""
    try:
        status, body = await http.ask("GET", "/v1/models")
    except HttpFailed as error:
        raise TargetError(f"{http.url} cannot be asked: {error}; is the server running there?") from error
    if status == UNAUTHORIZED:
        raise TargetError(
            f"{http.url} wants an API key ({error_message(body)}); "
            "set MIXTRALKIT_API_KEY, or name a file that has it by --api-key-file"
        )
    models = _field(body, "data")
    name = models[0].get("id") if models and isinstance(models[0], dict) else None
    if not isinstance(name, str):
        raise TargetError(
            f"{http.url}/v1/models answers {status} and lists no model; say --model NAME, if it is a server of "
            "OpenAI's API at all"
        )
    return name


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
    # The names of the fields here and in vLLM, and those of llama.cpp's server; each ignores the others'.
    names = {"prompt": sample, "add_special_tokens": False, "content": sample, "add_special": False}
    try:
        _, body = await http.ask("POST", "/tokenize", {"model": model, **names})
    except HttpFailed:
        return []
    return sorted({token for token in _field(body, "tokens") if isinstance(token, int)})


def _field(body: bytes, name: str) -> list[Any]:
    """A list in a JSON object, empty where there is none."""
    try:
        found = json.loads(body)[name]
    except (ValueError, KeyError, TypeError):
        return []
    return found if isinstance(found, list) else []
