"""One line of JSON a request, whatever clients write."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.serve.running_server import RunningServer
from tests.serve.test_clients_gone import connect

SECRET = "my secret words"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, server: RunningServer) -> Iterator["Lines"]:
    with caplog.at_level(logging.INFO, logger="mixtralkit.serve"):
        yield Lines(caplog, server)


class Lines:
    """What was logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture, server: RunningServer) -> None:
        self._caplog, self._server = caplog, server

    def wait(self, count: int) -> list[dict[str, Any]]:
        """So many lines of requests; each comes after the answer."""
        self._server.until(lambda: len(self._of_requests()) >= count)
        return [json.loads(message) for message in self._of_requests()]

    def _of_requests(self) -> list[str]:
        return [record.getMessage() for record in self._caplog.records if record.name.endswith("access_log")]


def test_a_line_has_what_happened_and_nothing_that_was_said(server: RunningServer, lines: Lines) -> None:
    response = server.post("/v1/completions", {"prompt": SECRET, "max_tokens": 3, "user": SECRET, "stream": True})
    (line,) = lines.wait(1)
    assert line.pop("seconds") > 0
    assert line == {
        "method": "POST",
        "route": "/v1/completions",
        "status": 200,
        "prompt_tokens": len(server.tokenizer.encode(SECRET)),
        "output_tokens": 3,
        "request": response.headers["x-request-id"],
        "client": "127.0.0.1",
    }
    assert line["request"] in response.text  # the answer's id has it


def test_refusals_have_lines_without_what_was_said(
    server: RunningServer, lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    server.post("/v1/completions", {"prompt": [SECRET, 5]})
    server.post("/v1/completions", {"prompt": SECRET, "n": SECRET})
    server.post("/v1/chat/completions", {"messages": [{"role": SECRET, "content": SECRET}]})
    assert [line["status"] for line in lines.wait(3)] == [400, 400, 400]
    assert SECRET not in caplog.text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_who_leaves_has_a_line_that_says_so(server: RunningServer, lines: Lines, stream: bool, begun: bool) -> None:
    """499, whatever has been sent of the answer."""
    with connect(server, {"prompt": "to be", "max_tokens": 500, "ignore_eos": True, "stream": stream}) as leaving:
        server.until(lambda: server.engine.snapshot().running == 1)
        if begun and stream:
            leaving.recv(4096)
    (line,) = lines.wait(1)
    assert line["status"] == 499


def test_control_characters_cannot_forge_a_line(server: RunningServer, lines: Lines) -> None:
    httpx.get(server.url + "/a%0a%1b[2Jb%00c%E2%80%AEd")
    (line,) = lines.wait(1)
    assert line["route"] == "/a\n\x1b[2Jb\0c\u202ed"
    (message,) = lines._of_requests()
    assert message.isascii()
    assert message.isprintable()


def test_a_long_path_is_cut(server: RunningServer, lines: Lines) -> None:
    httpx.get(server.url + "/" + "a" * 5000)
    (line,) = lines.wait(1)
    assert len(line["route"]) == 200


def test_a_field_that_is_ignored_is_named_once(
    server: RunningServer, lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        server.complete(**{"max_tokens": 1, "odd\nname": SECRET, "another": 1})
    lines.wait(3)
    assert caplog.text.count('the field "odd\\nname" of requests is ignored') == 1
    assert caplog.text.count('the field "another" of requests is ignored') == 1
    nested = {"role": "user", "content": [{"type": "text", "text": "a", "deep": 1}], "name": "n"}
    server.post("/v1/chat/completions", {"messages": [nested, nested], "max_tokens": 1})
    assert caplog.text.count('the field "messages.name" of requests is ignored') == 1
    assert caplog.text.count('the field "messages.content.deep" of requests is ignored') == 1
    assert SECRET not in caplog.text


def test_ten_thousand_fields_are_not_remembered(
    server: RunningServer, lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    server.complete(**{f"field{number}": 1 for number in range(10_000)}, max_tokens=1)
    lines.wait(1)
    assert caplog.text.count("is ignored") <= 256


def test_what_is_asked_all_the_time_is_not_logged(server: RunningServer, lines: Lines) -> None:
    with server.client() as client:
        for path in ("/health", "/health/live", "/health/ready", "/metrics", "/page/state.json", "/v1/models"):
            assert client.get(path).status_code == 200
    assert [line["route"] for line in lines.wait(1)] == ["/v1/models"]
