"""Clients that leave or stop reading: their requests end, and every block is free again. Over a real engine."""

import gc
import json
import socket
import struct
import time
import weakref
from asyncio import Transport
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.serve import outputs
from mixtralkit.serve.http_protocol import HttpProtocol
from tests.serve.running_server import CONFIG, RunningServer, running_server

END = b"\r\n0\r\n\r\n"  # of a body in chunks
FEW_STEPS = 40  # within which the engine hears of an end, of about 500 that the response would take
LONG = {"prompt": "to be", "max_tokens": CONFIG.context, "ignore_eos": True}


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Two places, so that whoever keeps one is noticed."""
    limits = EngineLimits(batch_size=2, max_waiting=16)
    with running_server(tmp_path_factory.mktemp("slow"), limits) as running:
        yield running


def connect(server: RunningServer, body: dict[str, Any], path: str = "/v1/completions") -> socket.socket:
    """Send a request and do nothing more."""
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so that little is enough to fill it
    connection.connect((host, int(port)))
    content = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
    head = "\r\n".join([*lines, f"content-length: {len(content)}", "", ""])
    connection.sendall(head.encode() + content)
    return connection


def all_free(server: RunningServer) -> bool:
    """Whether nothing runs and no block is held."""
    return server.idle() and server.engine.snapshot().kv_usage == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_who_hangs_up_is_forgotten(slow_server: RunningServer, stream: bool, n: int) -> None:
    """Three responses of two places: the third waits when its client goes."""
    before = slow_server.engine.snapshot().steps
    connection = connect(slow_server, {**LONG, "stream": stream, "n": n})
    slow_server.until(lambda: slow_server.engine.snapshot().steps > before + 3)
    at_close = slow_server.engine.snapshot().steps
    connection.close()
    slow_server.until(lambda: all_free(slow_server))
    assert slow_server.engine.snapshot().steps <= at_close + FEW_STEPS


@pytest.mark.parametrize("more", [b"\r\n", b"GET /health/live HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", b"x" * 200_000])
def test_who_says_more_and_hangs_up_is_forgotten(slow_server: RunningServer, more: bytes) -> None:
    """Bytes after the request, while it is answered, do not hide the end of the connection."""
    before = slow_server.engine.snapshot().steps
    connection = connect(slow_server, LONG)  # a stream's end is noticed by writing, too
    slow_server.until(lambda: slow_server.engine.snapshot().steps > before + 3)
    with suppress(ConnectionError):  # of what is too much the rest is not taken
        connection.sendall(more)
    time.sleep(0.05)  # in which the server reads it
    at_close = slow_server.engine.snapshot().steps
    connection.close()
    slow_server.until(lambda: all_free(slow_server))
    assert slow_server.engine.snapshot().steps <= at_close + FEW_STEPS


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list["weakref.ref[HttpProtocol]"]:
    """The connections since the test began."""
    connections: list[weakref.ref[HttpProtocol]] = []
    plain = HttpProtocol.connection_made

    def noted(connection: HttpProtocol, transport: Transport) -> None:
        connections.append(weakref.ref(connection))
        plain(connection, transport)

    monkeypatch.setattr(HttpProtocol, "connection_made", noted)
    return connections


def test_a_token_does_not_wait_for_the_one_before(
    slow_server: RunningServer, made: list["weakref.ref[HttpProtocol]"]
) -> None:
    """Small packets leave at once, instead of when the client has confirmed the last: 40 ms a token."""
    with slow_server.client() as client:
        assert client.get("/health/live").status_code == 200
        (connection,) = made
        own = connection()
        assert own is not None
        assert own.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_who_resets_the_connection_after_an_answer_is_forgotten(
    slow_server: RunningServer, made: list["weakref.ref[HttpProtocol]"]
) -> None:
    """At once, not only when a kept connection would have been given up."""
    connection = connect(slow_server, {**LONG, "max_tokens": 1})
    assert b" 200 " in connection.recv(1 << 16)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    slow_server.until(lambda: gc.collect() >= 0 and all(one() is None for one in made))


def test_requests_one_after_the_other_without_waiting(slow_server: RunningServer) -> None:
    """What is sent ahead is answered in its turn; what comes after the last request does not count."""
    ask = b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\n"
    with connect(slow_server, {**LONG, "max_tokens": 20}) as connection:
        connection.settimeout(30)
        connection.sendall((ask + b"\r\n") * 3 + ask + b"connection: close\r\n\r\n\r\n")
        received = b""
        while part := connection.recv(1 << 16):
            received += part
    assert received.count(b"HTTP/1.1 200 OK") == 5


def test_who_hangs_up_in_the_queue_is_forgotten(slow_server: RunningServer) -> None:
    running = [connect(slow_server, {**LONG, "stream": True}) for _ in range(2)]
    slow_server.until(lambda: slow_server.engine.snapshot().running == 2)
    waiting = connect(slow_server, {**LONG, "stream": True})
    slow_server.until(lambda: slow_server.engine.snapshot().waiting == 1)
    waiting.close()
    slow_server.until(lambda: slow_server.engine.snapshot().waiting == 0, seconds=2)
    assert slow_server.engine.snapshot().running == 2  # not because there was a place for it
    for connection in running:
        connection.close()
    slow_server.until(lambda: all_free(slow_server))


def test_who_does_not_read_is_given_up(slow_server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each token comes with 20 alternatives, so the buffers between server and client are full soon.

    Whoever begins to read at last finds the connection closed, or is told.
    """
    monkeypatch.setattr(HttpProtocol, "stall_seconds", 0.3)
    monkeypatch.setattr(outputs, "MOST_UNREAD", 50)
    asked = {**LONG, "stream": True, "logprobs": 20, "n": 2}
    connections = [connect(slow_server, asked) for _ in range(3)]
    slow_server.until(lambda: slow_server.engine.snapshot().running == 2)
    slow_server.until(lambda: all_free(slow_server), seconds=60)
    for connection in connections:
        connection.settimeout(30)
        received = b""
        with suppress(ConnectionResetError):  # the end of what the server had still written
            while not received.endswith(END) and (part := connection.recv(1 << 20)):
                received += part
        assert b'"length"' not in received
        assert not received.endswith(END) or b"does not read on" in received
        connection.close()


def test_who_reads_slowly_gets_everything(slow_server: RunningServer) -> None:
    """Slower than the tokens come, but always on."""
    connection = connect(slow_server, {**LONG, "max_tokens": 120, "stream": True, "logprobs": 20})
    connection.settimeout(30)
    received = b""
    while not received.endswith(END):
        received += connection.recv(2048)
        time.sleep(0.002)
    connection.close()
    assert received.count(b"data: ") == 121
    assert b"data: [DONE]" in received


@pytest.mark.parametrize("stream", [False, True])
def test_who_reads_on_is_not_given_up(
    slow_server: RunningServer, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """However often the time of a client that reads nothing passes before the server's buffer is empty."""
    monkeypatch.setattr(HttpProtocol, "stall_seconds", 0.3)
    asked = {"prompt": [5] * 400, "max_tokens": 90, "ignore_eos": True, "logprobs": 20, "echo": True, "n": 2}
    end = END if stream else b"}}"
    received, started = b"", time.monotonic()
    with connect(slow_server, {**asked, "stream": stream}) as connection:
        connection.settimeout(30)
        while not received.endswith(end) and (part := connection.recv(4096)):
            received += part
            time.sleep(0.01)
    assert received.endswith(end)
    assert time.monotonic() - started > 1.0  # else this says nothing


def test_sixty_requests_some_of_which_leave(slow_server: RunningServer) -> None:
    """Random lengths and ends of connections; what stays is answered in full, and nothing is left behind."""

    def one(number: int) -> None:
        body = {"prompt": [5 + number] * (number * 7 % 90 + 1), "max_tokens": number % 9 + 1, "ignore_eos": True}
        if number % 3:
            connection = connect(slow_server, {**body, "stream": bool(number % 2), "max_tokens": 60})
            time.sleep(number % 7 / 50)
            connection.close()
            return
        response = slow_server.post("/v1/completions", body)
        while response.status_code == 429:
            assert response.headers["retry-after"]
            time.sleep(0.05)
            response = slow_server.post("/v1/completions", body)
        assert response.json()["usage"]["completion_tokens"] == body["max_tokens"]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(60)))
    slow_server.until(lambda: all_free(slow_server))


def test_more_than_the_queue_holds_is_refused_at_once(slow_server: RunningServer) -> None:
    """Two run and sixteen wait: of forty at a time the others hear that they should come again."""

    def one(_: int) -> int:
        return slow_server.post("/v1/completions", {**LONG, "max_tokens": 30}).status_code

    with ThreadPoolExecutor(40) as pool:
        statuses = list(pool.map(one, range(40)))
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) >= 18
    slow_server.until(lambda: all_free(slow_server))
