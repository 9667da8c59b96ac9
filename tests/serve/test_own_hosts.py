"""Names under which a server without keys is asked: a page of any site can have its own name lead to 127.0.0.1."""

import socket

import httpx
import pytest

from mixtralkit.serve.api_keys import ApiKeys
from mixtralkit.serve.own_hosts import own_hosts
from tests.serve.running_server import RunningServer, make_server

OTHERS = [
    "example.org",
    "example.org:8000",
    "127.0.0.1.example.org",
    "localhost.example.org:80",
    "192.168.0.1",
    "",
    ":80",
]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8000"])
def test_its_own_names_are_answered(server: RunningServer, host: str) -> None:
    with server.client(headers={"host": host}) as client:
        assert client.get("/v1/models").status_code == 200


@pytest.mark.parametrize("host", OTHERS)
@pytest.mark.parametrize("path", ["/", "/v1/models", "/page/state.json", "/api"])
def test_other_names_are_not(server: RunningServer, host: str, path: str) -> None:
    with server.client(headers={"host": host}) as client:
        response = client.get(path)
    assert response.status_code == 421
    words = response.json()["message"] if path == "/api" else response.json()["error"]["message"]
    assert "keys" in words
    assert "x-request-id" in response.headers


def test_with_keys_any_name_will_do() -> None:
    with make_server(keys=ApiKeys(["key"])) as server:
        headers = {"host": "example.org", "authorization": "Bearer key"}
        assert httpx.get(f"{server.url}/v1/models", headers=headers).status_code == 200


def test_the_name_that_the_address_was_given_is_answered() -> None:
    with make_server(host="My-Machine") as server:
        for host, status in (("my-machine:80", 200), ("127.0.0.1", 200), ("example.org", 421)):
            assert httpx.get(f"{server.url}/v1/models", headers={"host": host}).status_code == status


def test_a_server_that_others_reach_may_have_any_name() -> None:
    with socket.create_server(("0.0.0.0", 0)) as everywhere:
        assert own_hosts(everywhere, "0.0.0.0") is None
