"""API keys: on every route, whatever the header looks like."""

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mixtralkit.errors import UsageError
from mixtralkit.serve.api_keys import ApiKeys
from tests.serve.running_server import RunningServer, running_server

KEYS = ("first-key", "second/key=")
ROUTES = (
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/chat/completions"),
    ("GET", "/tokenizer_info"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("PUT", "/api"),
    ("POST", "/api"),
    ("GET", "/metrics"),
    ("GET", "/health"),
    ("GET", "/health/ready"),
    ("GET", "/page/state.json"),
    ("GET", "/openapi.json"),
    ("GET", "/nowhere"),
    ("DELETE", "/v1/models"),
    ("GET", "/page/state.json%0a"),
    ("GET", "/page/state.json/"),
    ("GET", "/page//state.json"),
    ("GET", "/page/nothing.js"),
    ("GET", "/metrics%0a"),
    ("GET", "/health/live%0a"),
    ("GET", "/%0a"),
    ("POST", "/api%0a"),
    ("POST", "/v1/completions%0A"),
)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("guarded"), keys=ApiKeys(KEYS)) as running:
        yield running


def connection(running: RunningServer) -> "closing[http.client.HTTPConnection]":
    """By Python's own client, which sends a header as it is."""
    host, port = running.url.removeprefix("http://").split(":")
    return closing(http.client.HTTPConnection(host, int(port), timeout=10))


def ask(
    running: RunningServer, method: str, path: str, authorization: str | bytes | None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, headers and body of an answer."""
    with connection(running) as asking:
        asking.request(method, path, headers={} if authorization is None else {"authorization": authorization})
        response = asking.getresponse()
        return response.status, response.headers, response.read()


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", "first-key", "Basic first-key", "Bearer first-key second/key=",
     "Bearer FIRST-KEY", b"Bearer \xff\xfe"],
)  # fmt: skip
def test_without_a_right_key_there_is_no_answer(
    guarded: RunningServer, method: str, path: str, header: str | bytes | None
) -> None:
    status, headers, body = ask(guarded, method, path, header)
    assert status == 401
    assert headers["www-authenticate"] == "Bearer"
    error = json.loads(body)
    assert error["message"] if path == "/api" else error["error"]["code"] == "invalid_api_key"


def test_no_route_is_forgotten_here(guarded: RunningServer) -> None:
    """Of those that the server tells of itself."""
    document = json.loads(ask(guarded, "GET", "/openapi.json", f"Bearer {KEYS[0]}")[2])
    told = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert told - set(ROUTES) == {("GET", "/health/live")}


@pytest.mark.parametrize("key", KEYS)
def test_any_of_the_keys_is_right(guarded: RunningServer, key: str) -> None:
    for scheme in ("Bearer", "bearer"):
        assert ask(guarded, "GET", "/v1/models", f"{scheme} {key}")[0] == 200


def test_the_page_and_whether_it_lives_are_open(guarded: RunningServer) -> None:
    for path in ("/", "/health/live", "/page/icon.svg"):
        assert ask(guarded, "GET", path, None)[0] == 200


@pytest.mark.parametrize("path", ["/page/state.json%0a", "/metrics%0a", "/v1/models%0A", "/page/icon.svg%0a", "/%7f"])
def test_a_path_with_control_characters_is_nowhere(guarded: RunningServer, path: str) -> None:
    """A route's pattern would take a line end after it, which no comparison of paths reckons with."""
    status, _, body = ask(guarded, "GET", path, f"Bearer {KEYS[0]}")
    assert status == 404
    assert json.loads(body)["error"]["code"] == "not_found"


def test_no_body_is_read_before_the_key(guarded: RunningServer) -> None:
    with connection(guarded) as asking:
        asking.putrequest("POST", "/v1/completions")
        asking.putheader("content-length", str(10**9))
        asking.endheaders()
        assert asking.getresponse().status == 401


@pytest.mark.parametrize("header", [None, "Bearer ", "Bearer anything"])
def test_without_keys_everyone_is_welcome(server: RunningServer, header: str | None) -> None:
    """An empty key is what clients send that were given none."""
    assert ask(server, "GET", "/v1/models", header)[0] == 200


def test_keys_from_a_file_and_from_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# of the team\nfirst-key\n\n  second/key=  \n", encoding="utf-8")
    for keys in (ApiKeys.from_file(file), ApiKeys.from_variable("KEYS", "first-key, second/key=\n")):
        assert all(keys.accepts(f"Bearer {key}") for key in KEYS)
        assert not keys.accepts("Bearer # of the team")
    assert not ApiKeys.from_variable("KEYS", None)


@pytest.mark.parametrize("value", ["", " ", ",", " , \n"])
def test_a_variable_without_keys_is_refused(value: str) -> None:
    """Whoever sets it wants keys to be asked for: a server that is open instead would be found out too late."""
    with pytest.raises(UsageError, match="KEYS is set, but has no API key.*unset it"):
        ApiKeys.from_variable("KEYS", value)


@pytest.mark.parametrize(("content", "words"), [(b"", "no API key"), (b"# only\n", "no API key"), (b"\xff", "cannot")])
def test_a_file_without_keys_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(UsageError, match=words):
        ApiKeys.from_file(tmp_path / "keys")
    with pytest.raises(UsageError, match="cannot read"):
        ApiKeys.from_file(tmp_path / "absent")


@pytest.mark.parametrize("key", ["", "with space", "línea", "tab\t", "a\nb"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(UsageError, match="API key 2"):
        ApiKeys(["good", key])
