"""A real server on a real port over a real engine with a small random model, for tests to talk to."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.engine.engine import Engine
from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.serve.api_keys import ApiKeys
from mixtralkit.serve.http_server import HttpServer
from mixtralkit.tokenizer import Tokenizer
from tests.random_model import TINY, random_model, spread
from tests.small_tokenizer import PIECES, small_tokenizer

CONFIG = replace(TINY, vocab_size=PIECES, context=512)
NAME = "small"


def listener() -> socket.socket:
    """A socket that listens at a free port."""
    return socket.create_server(("127.0.0.1", 0))


def make_server(**options: Any) -> HttpServer:
    """A server that has not started."""
    return HttpServer(listener(), model_name=NAME, **options)


class RunningServer:
    """A server with its engine, and the two things that a test compares its answers with."""

    def __init__(self, server: HttpServer, engine: Engine, tokenizer: Tokenizer) -> None:
        self.server, self.engine, self.tokenizer = server, engine, tokenizer
        self.url = server.url

    def client(self, **options: Any) -> httpx.Client:
        """A client that waits long enough."""
        return httpx.Client(base_url=self.url, timeout=60, **options)

    def post(self, path: str, document: Any, **options: Any) -> httpx.Response:
        """One request with a client of its own."""
        with self.client() as client:
            return client.post(path, json=document, **options)

    def complete(self, **fields: Any) -> dict[str, Any]:
        """A completion that must be answered."""
        response = self.post("/v1/completions", {"prompt": "to be", "temperature": 0, **fields})
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document

    def until(self, reached: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait for something that will soon be so."""
        deadline = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < deadline, "it did not come so far"
            time.sleep(0.01)

    def idle(self) -> bool:
        """Whether the engine works on nothing."""
        snapshot = self.engine.snapshot()
        return not snapshot.running and not snapshot.waiting


def states() -> dict[str, Any]:
    """What the only rank tells of itself."""
    rows_LE = [[30, 10, 0, 0, 10], [0, 0, 0, 0, 0]]
    experts = [list(range(CONFIG.num_experts))] * CONFIG.num_layers
    return {"rank": 0, "host": "here", "rows_LE": rows_LE, "rows": 50, "experts": experts, "dispatch_seconds": 0.25}


@contextmanager
def running_server(
    folder: Path, limits: EngineLimits | None = None, keys: ApiKeys | None = None, **options: Any
) -> Iterator[RunningServer]:
    """A server that answers; its engine runs on a thread, as nothing else of a test does."""
    tokenizer = small_tokenizer(folder)
    model = random_model(CONFIG, seed=3)
    control = Collectives(None, torch.device("cpu"))
    spread(model, "local", control)
    limits = limits or EngineLimits(batch_size=8, max_waiting=64)
    with make_server(keys=keys, queue_limit=limits.max_waiting or 0, **options) as server:
        engine = Engine(
            model=model, tokenizer=tokenizer, control=control, limits=limits, state=states, on_facts=server.on_step
        )
        loop = threading.Thread(target=engine.run)
        loop.start()
        server.serve(engine, tokenizer, context=engine.context)
        try:
            yield RunningServer(server, engine, tokenizer)
        finally:
            engine.stop(now=True)
            loop.join()
