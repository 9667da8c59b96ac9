"""What must not harm: bodies that are too large, too deep, not numbers, not text, not HTTP. The server answers all."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from mixtralkit.serve.http_protocol import HttpProtocol
from tests.serve.running_server import RunningServer

JSON = {"content-type": "application/json"}


@pytest.fixture(autouse=True)
def _unharmed(server: RunningServer) -> Iterator[None]:
    """After every test the server still answers, and works on nothing."""
    yield
    assert server.complete(max_tokens=1)["usage"]["completion_tokens"] == 1
    server.until(server.idle)


BODIES = {
    "no JSON": b"{",
    "nothing": b"",
    "a list": b"[]",
    "deep": b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep in a field nobody knows": b'{"prompt": "a", "x": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
    "NaN": b'{"prompt": "a", "temperature": NaN}',
    "infinite": b'{"prompt": "a", "temperature": 1e400}',
    "a lone surrogate": b'{"prompt": "\\ud800"}',
    "NUL": b'{"prompt": "a\\u0000b"}',
    "NUL in a stop string": b'{"prompt": "a", "stop": "\\u0000"}',
    "no UTF-8": b'{"prompt": "\xff\xfe"}',
    "a number of 5000 digits": b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}",
    "a text for a number": b'{"prompt": "a", "n": "2"}',
    "true for a number": b'{"prompt": "a", "n": true}',
    "no prompt": b"{}",
    "a prompt of null": b'{"prompt": null}',
    "no prompts": b'{"prompt": []}',
    "an empty prompt of ids": b'{"prompt": [[]]}',
    "prompts of all kinds": b'{"prompt": ["a", 1, [2]]}',
    "a prompt of fractions": b'{"prompt": [1.5]}',
}
FIELDS: list[dict[str, Any]] = [
    {"n": 10**6},
    {"n": 0},
    {"n": -1},
    {"best_of": 10**9},
    {"max_tokens": -1},
    {"max_tokens": 10**12},
    {"logprobs": 10**6},
    {"logprobs": -1},
    {"temperature": -1},
    {"temperature": 1e308},
    {"top_p": 0},
    {"top_p": 2},
    {"top_k": -2},
    {"min_p": 1.1},
    {"presence_penalty": 3},
    {"repetition_penalty": 0},
    {"repetition_penalty": 0.001},
    {"logit_bias": {"5": 101}},
    {"logit_bias": {"x": 1}},
    {"logit_bias": {"-1": 1}},
    {"logit_bias": {str(token): 1 for token in range(5000)}},
    {"logit_bias": {"100000": 1}},
    {"stop": [""]},
    {"stop": ["a"] * 1000},
    {"stop": "a" * 10_000},
    {"stop_token_ids": [-1]},
    {"stop_token_ids": [10**9]},
    {"stop_token_ids": list(range(10_000))},
    {"seed": 2**70},
    {"min_tokens": 17},
    {"prompt": [400]},
    {"prompt": [-1]},
    {"prompt": [1] * 100_000},
    {"prompt": ["a"] * 5000},
    {"prompt": ["a"] * 100, "n": 100},
    {"prompt": "to be " * 10_000},
    {"suffix": "x"},
    {"guided_regex": "("},
    {"guided_regex": "a" * 100_000},
    {"guided_json": {"type": "nothing"}},
    {"structured_outputs": {"grammar": "x"}},
    {"guided_regex": "()", "min_tokens": 3},  # found out by the engine: nothing may come
]


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_is_no_request(server: RunningServer, body: bytes) -> None:
    with server.client() as client:
        response = client.post("/v1/completions", content=body, headers=JSON)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["message"]


@pytest.mark.parametrize("fields", FIELDS, ids=lambda fields: json.dumps(fields)[:40])
def test_a_value_out_of_bounds(server: RunningServer, fields: dict[str, Any]) -> None:
    response = server.post("/v1/completions", {"prompt": "to be", **fields})
    assert response.status_code == 400, response.text
    assert len(response.content) < 2000  # what was sent is not sent back
    assert "retry-after" not in response.headers  # it would be wrong again


def test_a_grammar_that_is_too_long_is_no_field_called_grammar(server: RunningServer) -> None:
    response = server.post("/v1/completions", {"prompt": "to be", "guided_regex": "a" * 100_000})
    assert response.json()["error"]["param"] is None


def test_numbers_that_are_not_in_json_are_none(server: RunningServer) -> None:
    """Each of them, in each place where a number is read."""
    for name in ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty"):
        for value in ("NaN", "Infinity", "-Infinity", "1e999"):
            with server.client() as client:
                content = f'{{"prompt": "a", "{name}": {value}}}'
                assert client.post("/v1/completions", content=content, headers=JSON).status_code == 400


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain"}, {"content-type": "multipart/form-data"}])
def test_only_json_is_read(server: RunningServer, headers: dict[str, str]) -> None:
    """Browsers send such types to any site without asking it; a page elsewhere must not use this server."""
    with server.client() as client:
        response = client.post("/v1/completions", content=b'{"prompt": "a"}', headers=headers)
    assert response.status_code == 400
    assert "application/json" in response.json()["error"]["message"]


def test_no_other_site_may_read(server: RunningServer) -> None:
    with server.client() as client:
        asked = {"origin": "https://example.org", "access-control-request-method": "POST"}
        response = client.options("/v1/completions", headers=asked)
        assert response.status_code == 405
        answer = client.get("/v1/models", headers={"origin": "https://example.org"})
    assert not any(name.startswith("access-control") for name in [*response.headers, *answer.headers])


def resident_bytes() -> int:
    """The memory of this process, which is the server's, too."""
    with open("/proc/self/statm", encoding="ascii") as status:
        return int(status.read().split()[1]) * 4096


def test_a_body_of_a_hundred_megabytes(server: RunningServer) -> None:
    """Refused by its length alone, or without a length as soon as it is too long; neither is kept."""
    before = resident_bytes()

    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1_000_000

    for headers in ({"content-length": str(10**8)}, {}):
        with server.client() as client:
            response = client.post("/v1/completions", headers={**JSON, **headers}, content=chunks())
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "body_too_large"
    assert resident_bytes() - before < 40_000_000


def test_a_client_that_asks_first_need_not_send(server: RunningServer) -> None:
    """As curl does with long bodies."""
    head = (
        b"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100000000\r\nexpect: 100-continue\r\n\r\n"
    )
    assert exchange(server, head).startswith(b"HTTP/1.1 413 ")


def exchange(server: RunningServer, sent: bytes) -> bytes:
    """What the server answers to bytes that need not be HTTP."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(sent)
        received = b""
        while part := connection.recv(65536):
            received += part
    return received


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # how TLS begins
        b"GET / HTTP/1.1\r\nx: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"x%d: a\r\n" % number for number in range(20_000)) + b"\r\n",
        b"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_no_http(server: RunningServer, sent: bytes) -> None:
    answer = exchange(server, sent)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["message"]


def test_a_head_that_does_not_come_to_its_end(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As slow clients send it on purpose, to hold connections: these are closed."""
    with monkeypatch.context() as patch:
        patch.setattr(HttpProtocol, "head_seconds", 0.2)
        assert exchange(server, b"") == b""
        assert exchange(server, b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n") == b""


@pytest.mark.parametrize("rest", [b"x", b"x" * 50])
def test_a_body_that_goes_on_after_its_answer(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, rest: bytes
) -> None:
    """404 is said before the body has come; then it must come to its end soon, and another request after it."""
    monkeypatch.setattr(HttpProtocol, "head_seconds", 0.3)
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 50\r\n\r\n")
        received = b""
        while not received.endswith(b"}}"):
            received += connection.recv(65536)
        assert received.startswith(b"HTTP/1.1 404 ")
        connection.sendall(rest)
        with suppress(ConnectionResetError):
            assert connection.recv(65536) == b""


def test_more_connections_than_there_may_be(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(HttpProtocol, "most_connections", 0)
        answer = exchange(server, b"GET /health/live HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after" in answer


def test_a_page_that_does_not_exist(server: RunningServer) -> None:
    with server.client() as client:
        for path in ("/nothing", "/v1/nothing", "/page/../app.py", "/page/%2e%2e/app.py", "/page/nothing.js"):
            response = client.get(path)
            assert response.status_code == 404
            assert response.json()["error"]["message"]
        for path, methods in (("/v1/completions", {"POST"}), ("/api", {"POST", "PUT"})):
            wrong = client.delete(path)
            assert wrong.status_code == 405
            assert {*wrong.headers["allow"].split(", ")} == methods


def objects(count: int) -> bytes:
    return b'{"prompt": "a", "max_tokens": 1, "x": [' + b",".join([b'{"" : 1}'] * count) + b"]}"


def test_more_members_than_any_request_has(server: RunningServer) -> None:
    """To read hundreds of thousands would keep everybody waiting, so they are counted first."""
    many = ",".join(f'"{number}": 1' for number in range(300_000)).encode()
    for body in (b"{" + many + b"}", b'{"prompt": "a", "logit_bias": {' + many + b"}}", objects(20_000)):
        with server.client() as client:
            response = client.post("/v1/completions", content=body, headers=JSON)
        assert response.status_code == 400
        assert "members" in response.json()["error"]["message"]


def test_what_a_text_says_is_no_member(server: RunningServer) -> None:
    """JSON within a prompt, and within that once more: too long here, but it is the prompt that is too long."""
    said = json.dumps({f'a"\\{number}': json.dumps({"b:": [":"]}) for number in range(20_000)})
    for prompt in (said, json.dumps(said), '":' * 20_000, '\\":\\\\' * 20_000):
        response = server.post("/v1/completions", {"prompt": prompt})
        assert response.json()["error"]["code"] == "context_length_exceeded"
    with server.client() as client:
        assert client.post("/v1/completions", content=objects(10_000), headers=JSON).status_code == 200


@pytest.mark.parametrize("path", ["/api", "/v1/completions"])
def test_the_name_of_a_field_is_not_sent_back_whole(server: RunningServer, path: str) -> None:
    name = "secret" * 1000
    body = {"prompts": ["a"], "prompt": "a", name: 1, "stream_options": {name: 1}, "structured_outputs": {name: 1}}
    with server.client() as client:
        response = client.post(path, json=body)
    assert response.status_code == 400
    assert len(response.content) < 500
