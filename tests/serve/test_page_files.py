"""The page's files over HTTP, with the headers that make it safe, and its figures."""

import pytest

from mixtralkit.serve.page_files import FOLDER
from tests.serve.running_server import CONFIG, NAME, RunningServer

FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_the_folder_is_served(server: RunningServer, name: str) -> None:
    with server.client() as client:
        response = client.get(f"/page/{name}")
        assert response.status_code == 200
        assert response.content == (FOLDER / name).read_bytes()
        again = client.get(f"/page/{name}", headers={"if-none-match": response.headers["etag"]})
        head = client.head(f"/page/{name}")
    assert (again.status_code, again.content) == (304, b"")
    assert (head.status_code, head.content) == (200, b"")
    for answer in (response, again):
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-cache"


def test_the_page_is_at_the_root(server: RunningServer) -> None:
    with server.client() as client:
        response = client.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.content == (FOLDER / "index.html").read_bytes()


def test_the_figures_of_the_machine(server: RunningServer) -> None:
    server.until(lambda: bool(server.engine.snapshot().states))
    before = server.engine.snapshot().steps
    document = server.complete(prompt="to be", max_tokens=5)
    with server.client() as client:
        response = client.get("/page/state.json")
    state = response.json()
    assert (state["model"], state["state"], state["reason"], state["loaded"]) == (NAME, "ready", None, 1.0)
    assert state["context"] == CONFIG.context
    assert state["steps"] >= before + 5
    assert state["generated_tokens"] >= document["usage"]["completion_tokens"]
    assert (state["num_layers"], state["num_experts"]) == (CONFIG.num_layers, CONFIG.num_experts)
    assert state["rows_LE"][0] == [30, 10, 0, 0, 10]
    assert state["imbalance_L"] == [3.0, 0.0]
    assert state["holders_LE"] == [[[0]] * CONFIG.num_experts] * CONFIG.num_layers
    (rank,) = state["ranks"]
    assert (rank["rank"], rank["host"], rank["up"], rank["rows"], rank["tokens_rows"]) == (0, "here", True, 50, 50)
