"""What goes wrong comes as the client's own exceptions, and it tries again when the server is full."""

import asyncio
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import replace

from openai import APIStatusError, AuthenticationError, BadRequestError, NotFoundError, OpenAI, RateLimitError

from acceptance.finding import Wrong, expect
from acceptance.openai_client.clients import PROMPT, QUESTION, Server

AT_A_TIME = 10
PATIENCE = 20.0


def too_long(server: Server) -> str:
    """A prompt beyond the context, with the numbers."""
    error = _refusal(BadRequestError, lambda: _complete(server, prompt="love " * 2000))
    expect(error.code == "context_length_exceeded" and "512" in error.message, f"{error.code}: {error.message}")
    return error.message


def no_such_model(server: Server) -> str:
    """Another model's name."""
    error = _refusal(NotFoundError, lambda: _complete(replace(server, model="gpt-5")))
    expect(error.code == "model_not_found" and error.param == "model", f"{error.code}, {error.param}")
    return error.message


def out_of_range(server: Server) -> str:
    """Values out of range name their field."""
    for field, value in {"n": 10**9, "temperature": -1, "max_tokens": -5, "logprobs": 10**6, "top_p": 7}.items():
        error = _refusal(BadRequestError, lambda field=field, value=value: _complete(server, **{field: value}))  # type: ignore[misc]
        expect(error.param == field, f"{field} {value}: {error.param}, {error.message}")
    return "n, temperature, max_tokens, logprobs, top_p"


def wrong_messages(server: Server) -> str:
    """A conversation that does not end with the user."""
    client = server.client()
    error = _refusal(
        BadRequestError,
        lambda: client.chat.completions.create(
            model=server.model, messages=[{"role": "assistant", "content": QUESTION}]
        ),
    )
    return error.message


def closed_stream(server: Server) -> str:
    """A stream that the client leaves is no longer worked on."""
    stream = server.client().completions.create(
        model=server.model, prompt=PROMPT, max_tokens=480, stream=True, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    stream.close()
    until = time.monotonic() + PATIENCE
    while running := _running(server):
        expect(time.monotonic() < until, f"{running:g} requests are still running")
        time.sleep(0.1)
    return "nothing is running after it"


def wrong_key(server: Server) -> str:
    """A key that is not the server's."""
    error = _refusal(AuthenticationError, lambda: _complete(replace(server, key="not-the-key")))
    expect(server.key not in error.message, "the answer has the key")
    return error.message


def full(server: Server) -> str:
    """More requests than there is room for: some are told to come again, and are served when the client does."""
    without, again = (asyncio.run(_burst(server, retries)) for retries in (0, 30))
    refused = [error for error in without if error is not None]
    expect(all(isinstance(error, RateLimitError) for error in refused), f"{refused}")
    expect(0 < len(refused) < AT_A_TIME, f"{len(refused)} of {AT_A_TIME} were refused")
    expect(all(error.response.headers.get("retry-after") for error in refused), "there is no Retry-After")
    expect(again == [None] * AT_A_TIME, f"{again}")
    return f"{len(refused)} of {AT_A_TIME} refused without, none with trying again"


async def _burst(server: Server, retries: int) -> list[APIStatusError | None]:
    async with server.async_client(retries) as client:

        async def one(number: int) -> APIStatusError | None:
            try:
                await client.completions.create(
                    model=server.model, prompt=PROMPT, max_tokens=40, seed=number, extra_body={"ignore_eos": True}
                )
            except APIStatusError as error:
                return error
            return None

        return await asyncio.gather(*(one(number) for number in range(AT_A_TIME)))


def _refusal(kind: type[APIStatusError], call: Callable[[], object]) -> APIStatusError:
    try:
        call()
    except kind as error:
        return error
    raise Wrong(f"no {kind.__name__}")


def _complete(server: Server, **fields: object) -> object:
    client: OpenAI = server.client()
    return client.completions.create(model=server.model, **{"prompt": PROMPT, **fields})  # type: ignore[call-overload]


def _running(server: Server) -> float:
    """What /metrics says of requests that are worked on."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=PATIENCE) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("mixtralkit:num_requests_running{"))


CHECKS: Mapping[str, Callable[[Server], str]] = {
    "errors: context_length_exceeded": too_long,
    "errors: another model": no_such_model,
    "errors: values out of range": out_of_range,
    "errors: wrong messages": wrong_messages,
    "errors: a stream that is closed": closed_stream,
}
# For a server with a key, where one request runs and one waits.
SMALL_SERVER_CHECKS: Mapping[str, Callable[[Server], str]] = {
    "errors: a wrong key": wrong_key,
    "errors: 429, and trying again": full,
}
