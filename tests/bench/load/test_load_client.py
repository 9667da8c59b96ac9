"""The client against a real server, that of the standard library: answers, failures, times, connections."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from mixtralkit.bench.load.answer_stream import Answer
from mixtralkit.bench.load.http_client import HttpClient
from mixtralkit.bench.load.load_client import Failure, LoadClient
from mixtralkit.bench.load.load_plan import Endpoint
from mixtralkit.bench.load.load_prompts import LoadRequest
from tests.bench.load.odd_server import FIRST, GAP, KEY, OddServer, odd_server

REQUEST = LoadRequest((5, 6, 7), 4)


@pytest.fixture(scope="module")
def server() -> Iterator[OddServer]:
    with odd_server() as running:
        yield running


def send(
    server: OddServer,
    model: str,
    request: LoadRequest = REQUEST,
    *,
    endpoint: Endpoint = Endpoint.COMPLETIONS,
    key: str | None = None,
    times: int = 1,
    patience: float = 30.0,
    on_piece: Callable[[], object] = lambda: None,
) -> list[Answer | Failure]:
    """The results of sending a request some times, one after the other."""

    async def all_of_them() -> list[Answer | Failure]:
        with closing(HttpClient(server.url, key, patience)) as http:
            client = LoadClient(http, model, endpoint, on_piece)
            return [await client.send(request, client.now()) for _ in range(times)]

    return asyncio.run(all_of_them())


def test_an_answer_is_counted_by_the_server(server: OddServer) -> None:
    (answer,) = send(server, "plain")
    assert isinstance(answer, Answer)
    assert (answer.prompt_tokens, answer.output_tokens, answer.asked_tokens, answer.usage) == (3, 4, 4, True)
    assert len(answer.gaps) == 3
    asked = server.sent()[-1]
    assert asked["prompt"] == [5, 6, 7]
    assert asked["ignore_eos"] is True
    assert asked["max_tokens"] == 4


def test_a_chat(server: OddServer) -> None:
    (answer,) = send(server, "plain", LoadRequest("two words", 3), endpoint=Endpoint.CHAT)
    assert isinstance(answer, Answer)
    assert (answer.prompt_tokens, answer.output_tokens, len(answer.gaps)) == (2, 3, 2)
    assert server.sent()[-1]["messages"] == [{"role": "user", "content": "two words"}]


@pytest.mark.parametrize("endpoint", [Endpoint.COMPLETIONS, Endpoint.CHAT])
def test_times_are_those_of_the_server(server: OddServer, endpoint: Endpoint) -> None:
    """Lower bounds: it cannot have been faster than the server's pauses, and may have been slower on a busy machine.

    The server goes on when the client has told of a piece: were pieces told at the end of the answer, it would not end.
    """
    request = LoadRequest("a prompt", 4)
    (answer,) = send(server, "slow", request, endpoint=endpoint, on_piece=server.received.release)
    assert isinstance(answer, Answer)
    assert answer.first >= FIRST
    assert len(answer.gaps) == 3
    assert min(answer.gaps) >= GAP
    assert answer.first + sum(answer.gaps) <= answer.latency
    server.received.acquire()  # of the last piece


def test_without_usage_pieces_are_counted(server: OddServer) -> None:
    (answer,) = send(server, "uncounted")
    assert isinstance(answer, Answer)
    assert (answer.prompt_tokens, answer.output_tokens, answer.usage) == (None, 4, False)


@pytest.mark.parametrize(
    ("model", "kind", "message"),
    [
        ("busy", "429", "come back later"),
        ("locked", "401", "who are you?"),
        ("failing", "stream", "a rank is gone"),
        ("cut", "connection", "closed the connection before the response was complete"),
    ],
)
def test_failures_have_their_kind_and_the_next_request_goes_on(
    server: OddServer, model: str, kind: str, message: str
) -> None:
    failures = send(server, model, times=2)
    for failure in failures:
        assert isinstance(failure, Failure)
        assert failure.kind == kind
        assert message in failure.message


def test_silence_is_given_up(server: OddServer) -> None:
    (failure,) = send(server, "silent", patience=0.1)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.message) == ("timeout", "nothing came for 0.1 s")


def test_a_server_that_is_not_there() -> None:
    with odd_server() as server:
        gone = server
    (failure,) = send(gone, "plain")
    assert isinstance(failure, Failure)
    assert failure.kind == "connection"


def test_a_key_goes_along(server: OddServer) -> None:
    (answer,) = send(server, "locked", key=KEY)
    assert isinstance(answer, Answer)


def test_connections_are_used_again(server: OddServer) -> None:
    before = len(server.asked)
    send(server, "plain", times=3)
    assert len({address for *_, address in server.asked[before:]}) == 1


def test_a_kept_connection_that_the_server_has_closed_is_no_failure(server: OddServer) -> None:
    """The server closes a connection when a second request comes on it; that one goes through a new connection."""
    before = len(server.asked)
    assert all(isinstance(result, Answer) for result in send(server, "once", times=3))
    assert len(server.asked) - before == 3 + 2


def test_connections_are_as_many_as_requests_under_way(server: OddServer) -> None:
    """The server answers none before it has all: a limit of connections, or requests in turn, would wait for ever."""

    async def at_once() -> list[Answer | Failure]:
        with closing(HttpClient(server.url, None, 60.0)) as http:
            client = LoadClient(http, "together", Endpoint.COMPLETIONS, lambda: None)
            return await asyncio.gather(*(client.send(REQUEST, 0.0) for _ in range(server.barrier.parties)))

    assert all(isinstance(result, Answer) for result in asyncio.run(at_once()))
