"""What must not harm, on the other routes than /v1/completions (test_hostile_requests.py): the same values, refused."""

import json
from collections.abc import Iterator

import pytest

from tests.serve.running_server import CONFIG, RunningServer
from tests.serve.test_hostile_requests import JSON, resident_bytes

CHAT, MEGATRON = "/v1/chat/completions", "/api"
ROUTES = (CHAT, MEGATRON, "/tokenize", "/detokenize")
DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.fixture(autouse=True)
def _unharmed(server: RunningServer) -> Iterator[None]:
    """After every test the server still answers, and works on nothing."""
    yield
    assert server.complete(max_tokens=1)["usage"]["completion_tokens"] == 1
    server.until(server.idle)


def chat(**fields: object) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": "to be"}], **fields}).encode()


def said(content: object) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": content}]}).encode()


def megatron(**fields: object) -> bytes:
    return json.dumps({"prompts": ["to be"], **fields}).encode()


def detokenize(*tokens: object) -> bytes:
    return json.dumps({"tokens": tokens}).encode()


WRONG: list[tuple[str, bytes]] = [
    (CHAT, said("\ud800")),
    (CHAT, said("a\0b")),
    (CHAT, said([{"type": "text", "text": "\udfff"}])),
    (CHAT, said([{"type": "text", "text": "\0"}])),
    (CHAT, said("to be " * 10_000)),
    (CHAT, chat(stop="\ud800")),
    (CHAT, chat(user="\ud800")),
    (CHAT, chat(guided_regex="\ud800")),
    (CHAT, chat(n=10**6)),
    (CHAT, chat(n=-1)),
    (CHAT, chat(max_tokens=-1)),
    (CHAT, chat(max_completion_tokens=10**12)),
    (CHAT, chat(logprobs=True, top_logprobs=10**6)),
    (CHAT, chat(logprobs=True, top_logprobs=-1)),
    (CHAT, chat(temperature=float("nan"))),
    (CHAT, chat(temperature=float("-inf"))),
    (CHAT, chat()[:-1] + b', "top_p": 1e400}'),
    (CHAT, chat(messages=[{"role": "user", "content": "a"}] * 5000)),
    (CHAT, chat(response_format={"type": "json_schema", "json_schema": {"schema": {"pattern": "\ud800"}}})),
    (MEGATRON, megatron(prompts=["\ud800"])),
    (MEGATRON, megatron(prompts=["a\0b"])),
    (MEGATRON, megatron(prompts=["to be " * 10_000])),
    (MEGATRON, megatron(prompts=["a"] * 129)),
    (MEGATRON, megatron(tokens_to_generate=-1)),
    (MEGATRON, megatron(tokens_to_generate=10**12)),
    (MEGATRON, megatron(temperature=float("nan"))),
    (MEGATRON, megatron()[:-1] + b', "temperature": 1e400}'),
    (MEGATRON, megatron(stop_token=-1)),
    (MEGATRON, megatron(stop_token=CONFIG.vocab_size)),
    (MEGATRON, megatron(random_seed=-1)),
    ("/tokenize", b'{"prompt": "\\ud800"}'),
    ("/tokenize", b'{"prompt": "\\u0000"}'),
    ("/tokenize", said("\ud800")),
    ("/detokenize", detokenize(-1)),
    ("/detokenize", detokenize(CONFIG.vocab_size)),
    ("/detokenize", detokenize(2**70)),
    ("/detokenize", detokenize(1.5)),
    ("/detokenize", b'{"tokens": [NaN]}'),
    *((path, b'{"x": ' + DEEP + b"}") for path in ROUTES),
    *((path, DEEP) for path in ROUTES),
    *((path, b'"\xff"') for path in ROUTES),
]


@pytest.mark.parametrize(("path", "body"), WRONG, ids=[f"{path} {body[:60]!r}" for path, body in WRONG])
def test_a_value_that_no_route_takes(server: RunningServer, path: str, body: bytes) -> None:
    with server.client() as client:
        response = client.post(path, content=body, headers=JSON)
    assert response.status_code == 400, response.text
    told = response.json()
    assert told["message"] if path == MEGATRON else told["error"]["message"]
    assert len(response.content) < 2000  # what was sent is not sent back


def test_a_conversation_that_is_too_long_is_told_by_how_much(server: RunningServer) -> None:
    with server.client() as client:
        error = client.post(CHAT, content=said("to be " * 1000), headers=JSON).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert str(CONFIG.context) in error["message"]


@pytest.mark.parametrize("path", ROUTES)
def test_a_body_of_a_hundred_megabytes(server: RunningServer, path: str) -> None:
    with server.client() as client:
        response = client.post(path, content=(b" " * 1_000_000 for _ in range(100)), headers=JSON)
    assert response.status_code == 413


def test_memory_stays_as_it_is(server: RunningServer) -> None:
    """After sixty refusals of 4 MB each. Were any of them kept, or half of each, it would show.

    What may come on top is what the allocator keeps for the next body, in each of the two threads that read long ones.
    """
    long = "a" * 3_900_000
    bodies = [said(long + "\0"), chat(user=long, n=-1), b'{"x": "' + long.encode() + b'", "y": ' + DEEP + b"}"]
    with server.client() as client:

        def send(times: int) -> None:
            for body in bodies * times:
                assert client.post(CHAT, content=body, headers=JSON).status_code == 400

        send(4)
        before = resident_bytes()
        send(20)
    assert resident_bytes() - before < 40_000_000
