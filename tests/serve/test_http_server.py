"""The server's life: loading, serving, draining, failing, stopping; and requests whose engine hangs."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from mixtralkit.engine.output import OnOutput
from mixtralkit.engine.request import EngineClosed, QueueFull, Request
from mixtralkit.serve.http_server import HttpServer
from mixtralkit.serve.page_state import NOTHING
from mixtralkit.tokenizer import Tokenizer
from tests.serve.running_server import NAME, make_server
from tests.serve.scripted_engine import ScriptedEngine
from tests.small_tokenizer import small_tokenizer

BODY = {"prompt": "to be", "stream": True}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return small_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def server(engine: ScriptedEngine, tokenizer: Tokenizer) -> Iterator[HttpServer]:
    with make_server() as server:
        server.serve(engine, tokenizer, context=64)
        yield server


def get(server: HttpServer, path: str) -> httpx.Response:
    return httpx.get(server.url + path, timeout=10)


def post(server: HttpServer, **fields: Any) -> httpx.Response:
    return httpx.post(server.url + "/v1/completions", json={**BODY, **fields}, timeout=10)


def events(response: httpx.Response) -> list[Any]:
    """What a stream told; the last is "[DONE]"."""
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    return [json.loads(line) for line in lines[:-1]] + lines[-1:]


def in_background(function: Any, *arguments: Any, **fields: Any) -> "Any":
    pool = ThreadPoolExecutor(1)
    future = pool.submit(function, *arguments, **fields)
    pool.shutdown(wait=False)
    return future


def test_while_loading_it_says_how_far_it_is(tokenizer: Tokenizer) -> None:
    with make_server() as server:
        server.loading(42, 100)
        assert get(server, "/health/live").status_code == 200
        for path in ("/health", "/health/ready"):
            response = get(server, path)
            assert response.status_code == 503
            assert response.headers["retry-after"]
            assert response.json()["status"] == "loading"
            assert "42%" in response.json()["reason"]
        refused = post(server)
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert refused.json()["error"]["code"] == "server_loading"
        assert get(server, "/tokenizer_info").status_code == 503
        assert get(server, "/metrics").status_code == 200
        assert get(server, "/page/state.json").json()["loaded"] == 0.42
        assert get(server, "/v1/models").json()["data"][0]["id"] == NAME
        server.serve(ScriptedEngine(), tokenizer, context=64)
        assert get(server, "/health").json() == {"status": "ready", "reason": None, "loaded": 1.0, "model": NAME}


def test_ready_means_that_the_ranks_still_step(server: HttpServer, engine: ScriptedEngine) -> None:
    engine.seen = replace(NOTHING, seconds_since_step=45.0, last_step_seconds=0.1)
    response = get(server, "/health/ready")
    assert response.status_code == 503
    assert response.json()["status"] == "stuck"
    assert "45 s" in response.json()["reason"]
    engine.seen = replace(NOTHING, seconds_since_step=45.0, last_step_seconds=20.0)  # steps are slow here
    assert get(server, "/health/ready").status_code == 200


def test_draining_refuses_the_new_and_lets_the_old_end(server: HttpServer, engine: ScriptedEngine) -> None:
    running = in_background(post, server)
    engine.wait()
    engine.say(0, "a")
    server.drain()
    refused = post(server)
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    assert refused.json()["error"]["code"] == "server_draining"
    assert get(server, "/health/live").status_code == 200
    assert get(server, "/health/ready").json()["status"] == "draining"
    assert not server.wait_until_idle(0.05)
    engine.say(0, "b", "stop")
    assert server.wait_until_idle(5)
    *chunks, done = events(running.result())
    assert done == "[DONE]"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "ab"


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_is_told_to_everyone_at_once(
    server: HttpServer, engine: ScriptedEngine, stream: bool, begun: bool
) -> None:
    """With its own status as long as nothing has been sent, else as an event; and all of it is sent before the end."""
    running = in_background(post, server, stream=stream)
    engine.wait()
    if begun:
        engine.say(0, "a")
        time.sleep(0.2)
    started = time.monotonic()
    server.fail("rank 1 has gone")
    assert server.wait_until_idle(2)
    response = running.result()
    assert time.monotonic() - started < 2
    if stream and begun:
        *_, error, done = events(response)
        assert done == "[DONE]"
    else:
        assert response.status_code == 503
        assert response.headers["retry-after"]
        error = response.json()
    assert error["error"]["message"] == "rank 1 has gone"
    assert engine.cancelled == [0]
    later = post(server)
    assert later.status_code == 503
    assert later.json()["error"]["code"] == "server_failed"


@pytest.mark.parametrize("stream", [False, True])
def test_a_deadline_holds_though_the_engine_hangs(tokenizer: Tokenizer, stream: bool) -> None:
    engine = ScriptedEngine()
    with make_server(request_seconds=0.5) as server:
        server.serve(engine, tokenizer, context=64)
        response = post(server, stream=stream)
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "request_timeout"
        assert "0.5 s" in response.json()["error"]["message"]
        assert "retry-after" not in response.headers
        assert response.headers["x-should-retry"] == "false"  # the openai client asks for this one
        assert engine.cancelled == [0]


def test_requests_that_go_on(server: HttpServer, engine: ScriptedEngine) -> None:
    """Those that are being answered; after a failure, which ends them all, none."""
    assert server.going_on == 0
    asking = [in_background(post, server) for _ in range(2)]
    for _ in asking:
        engine.wait()
    assert server.going_on == 2
    server.fail("rank 1 is gone")
    assert server.going_on == 0
    assert all("error" in asked.result().text for asked in asking)


def test_a_queue_that_is_full_sends_clients_away_for_a_while(server: HttpServer, engine: ScriptedEngine) -> None:
    engine.refuses = QueueFull(7)
    response = post(server)
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["error"]["type"] == "rate_limit_error"
    engine.refuses = EngineClosed("rank 2 has gone")
    assert post(server).status_code == 503


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/api"])
def test_a_full_engine_refuses_without_looking_at_the_request(
    server: HttpServer, engine: ScriptedEngine, path: str
) -> None:
    """Which is no JSON here. What needs no room is answered all the same."""
    engine.full = True
    response = httpx.post(server.url + path, content=b"x" * 100_000, timeout=10)
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1
    assert "try again in" in response.text
    assert get(server, "/v1/models").status_code == 200
    assert httpx.post(server.url + "/tokenize", json={"prompt": "a"}, timeout=10).status_code == 200
    engine.full = False
    assert httpx.post(server.url + "/v1/completions", content=b"x", timeout=10).status_code == 400


@pytest.fixture
def two_places(engine: ScriptedEngine) -> ScriptedEngine:
    """Until a test says otherwise."""
    submit = engine.submit

    def fills(request: Request, on_output: OnOutput, *, checked: bool) -> int:
        number = submit(request, on_output, checked=checked)
        engine.refuses = QueueFull(2) if number == 1 else None
        return number

    engine.submit = fills  # type: ignore[method-assign]
    return engine


def test_if_one_of_several_finds_no_place_it_waits_for_one(server: HttpServer, two_places: ScriptedEngine) -> None:
    """Whoever asks for more at once than there is room for is answered all the same."""
    running = in_background(post, server, n=3, stream=False)
    two_places.wait()
    two_places.wait()
    two_places.say(0, "a", "length")
    two_places.say(1, "b", "length")
    two_places.refuses = None  # nobody tells the server
    two_places.wait()
    two_places.say(2, "c", "length")
    assert [choice["text"] for choice in running.result().json()["choices"]] == ["a", "b", "c"]
    assert not two_places.cancelled


@pytest.mark.parametrize("gone", [False, True])
def test_who_waits_for_a_place_of_several_can_be_given_up(
    server: HttpServer, two_places: ScriptedEngine, gone: bool
) -> None:
    """By an engine that closes, or one that gives up another of its responses."""
    running = in_background(post, server, n=3)
    two_places.wait()
    two_places.wait()
    if gone:
        two_places.refuses = EngineClosed("rank 2 has gone")
    else:
        two_places.say(1, "", "error", error="out of memory")
        two_places.refuses = None
    assert running.result().status_code == 503
    assert sorted(two_places.cancelled) == ([0, 1] if gone else [0])
    assert len(two_places.asked) == 2


@pytest.mark.parametrize(("finish", "code"), [("error", "engine_error"), ("interrupted", "server_draining")])
def test_a_request_that_the_engine_gives_up(server: HttpServer, engine: ScriptedEngine, finish: Any, code: str) -> None:
    for stream in (False, True):
        running = in_background(post, server, stream=stream, n=2)
        engine.wait()
        engine.wait()
        engine.say(2 * stream, "", finish, error="out of memory")
        response = running.result()
        assert response.status_code == 503
        assert response.json()["error"]["code"] == code
    assert engine.cancelled == [1, 3]


def test_stopping_answers_what_is_left(engine: ScriptedEngine, tokenizer: Tokenizer) -> None:
    with make_server() as server:
        server.serve(engine, tokenizer, context=64)
        running = in_background(post, server)
        engine.wait()
    assert running.result().status_code == 503
    with pytest.raises(httpx.ConnectError):
        get(server, "/health/live")
    assert not any(thread.name == "http" for thread in threading.enumerate())


def test_outputs_of_a_server_that_has_gone_are_dropped(engine: ScriptedEngine, tokenizer: Tokenizer) -> None:
    with make_server() as server:
        server.serve(engine, tokenizer, context=64)
        running = in_background(post, server)
        engine.wait()
    running.result()
    engine.say(0, "late")


def test_a_bug_is_a_500_without_details(
    server: HttpServer, engine: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.refuses = ZeroDivisionError("secret")
    response = post(server)
    assert response.status_code == 500
    assert "secret" not in response.text
    assert response.json()["error"]["code"] == "internal_error"
    server.stop()  # the log is written after the answer
    assert "ZeroDivisionError: secret" in caplog.text


def test_heavy_requests_do_not_keep_the_light_ones_waiting(server: HttpServer, engine: ScriptedEngine) -> None:
    """A megabyte is tokenized on a thread of its own; health is asked meanwhile and answered at once."""
    assert len(engine.asked) == 0
    heavy = in_background(post, server, prompt="to be or not " * 80_000)
    longest = 0.0
    while not heavy.done():
        started = time.monotonic()
        get(server, "/health/live")
        longest = max(longest, time.monotonic() - started)
    assert heavy.result().json()["error"]["code"] == "context_length_exceeded"
    assert longest < 1.0  # alone it takes a few milliseconds; the machine may be busy


def test_the_model_and_the_queue_are_told_to_the_page(server: HttpServer, tmp_path: Path) -> None:
    state = get(server, "/page/state.json").json()
    assert (state["model"], state["queue_limit"], state["context"]) == (NAME, 256, 64)
