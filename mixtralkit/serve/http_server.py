"""The HTTP server of rank 0, on a thread beside the engine's loop.

    server = HttpServer(listening_socket(host, port, ...), model_name="demo")
    server.start()                                   # /health answers, everything else says that the model is loading
    server.loading(done, total)
    server.serve(engine, tokenizer, context=...)     # from now on requests are answered
    server.drain(); server.wait_until_idle(30); server.stop()

Its event loop and the engine's threads meet in output_hub.py and in the engine's own methods, and nowhere else.
"""

import asyncio
import socket
import threading
from types import TracebackType
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from mixtralkit.engine.snapshot import StepFacts
from mixtralkit.serve.api_keys import ApiKeys
from mixtralkit.serve.app import make_app
from mixtralkit.serve.http_errors import HttpError
from mixtralkit.serve.http_protocol import HEAD_BYTES, STALL_SECONDS, HttpProtocol
from mixtralkit.serve.metrics import Metrics
from mixtralkit.serve.output_hub import OutputHub
from mixtralkit.serve.own_hosts import own_hosts
from mixtralkit.serve.request_desk import RequestDesk
from mixtralkit.serve.served_engine import ServedEngine
from mixtralkit.serve.server_state import Served, ServerState
from mixtralkit.tokenizer import Tokenizer

BODY_BYTES = 4 * 1024 * 1024
QUEUE = 256
REQUEST_SECONDS = 600.0
_KEEP_ALIVE_SECONDS = 60
_SEND_BUFFER = 64 * 1024  # bytes: what a client may leave unread before that is noticed
_LAST_WORDS_SECONDS = 2  # for answers that are on their way when the server stops


class HttpServer:
    """Serves at `listener`, which is its own from now on; `url` is where. Any thread but the server's may use it.

    `host` is the name that the address was given, if any: without `keys` a server that only this machine can reach
    answers to no other name than this and the usual ones. `queue_limit` is the engine's: how many requests may wait. A
    body has at most `body_bytes`; a request that is not answered `request_seconds` after it came is given up.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        model_name: str,
        host: str | None = None,
        keys: ApiKeys | None = None,
        queue_limit: int = QUEUE,
        body_bytes: int = BODY_BYTES,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        _limit_unread(listener)
        self._listener = listener
        self.url = _url(listener)
        self.state = ServerState(model_name, queue_limit)
        self._metrics = Metrics(self.state)
        self._hub = OutputHub()
        self._desk = RequestDesk(self.state, self._metrics, self._hub, request_seconds)
        hosts = None if keys else own_hosts(listener, host)
        app = make_app(self._desk, self._metrics, keys=keys or ApiKeys(), hosts=hosts, body_bytes=body_bytes)
        self._server = _Uvicorn(_config(app), self._hub)
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def start(self) -> None:
        """Begin to answer, on a thread of its own; returns when it does."""
        self._thread.start()
        self._server.answers.wait()

    def loading(self, done: float, total: float) -> None:
        """So much of the model has been loaded."""
        self.state.loaded = done / total if total else 0.0

    def serve(self, engine: ServedEngine, tokenizer: Tokenizer, *, context: int) -> None:
        """Answer requests from now on."""
        self.state.serve(Served(engine, tokenizer, context))

    def on_step(self, facts: StepFacts) -> None:
        """To be told of every step, for the metrics: the engine's `on_facts`."""
        self._metrics.on_step(facts)

    def drain(self) -> None:
        """Refuse new requests from now on; those that are being answered go on."""
        self.state.drain()

    @property
    def going_on(self) -> int:
        """How many requests are being answered; none after a failure, which ends them all."""
        return 0 if self.state.failed else self._hub.waiting

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait until no request is being answered, at most so long; returns whether that is so."""
        return self._hub.wait_until_idle(seconds)

    def fail(self, reason: str) -> None:
        """The engine has failed: answer all requests with an error that says so, and take no more."""
        self.state.fail(reason)
        self._hub.fail(HttpError(503, reason, code="engine_failed"))

    def stop(self) -> None:
        """End; what is still being answered has a moment to be sent."""
        self.state.drain()
        self._hub.fail(HttpError(503, "the server is shutting down", code="server_draining"))
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(2 * _LAST_WORDS_SECONDS)
        self._desk.close()
        self._listener.close()

    def __enter__(self) -> "HttpServer":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._listener]))


class _Uvicorn(uvicorn.Server):
    """Says when it answers, and where its event loop is."""

    def __init__(self, config: uvicorn.Config, hub: OutputHub) -> None:
        super().__init__(config)
        self.answers = threading.Event()
        self._hub = hub

    async def startup(self, *arguments: object, **named: object) -> None:
        """Begin to listen."""
        await super().startup(*arguments, **named)  # type: ignore[arg-type]
        self._hub.bind(asyncio.get_running_loop())
        self.answers.set()


def _config(app: ASGIApp) -> uvicorn.Config:
    """h11 rather than the faster httptools, as it limits the head of a request."""
    return uvicorn.Config(
        cast(Any, app),  # uvicorn and starlette have each their own types of the same messages
        http=HttpProtocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # what clients do wrong is theirs; requests are logged by access_log.py
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_LAST_WORDS_SECONDS,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )


def _url(listener: socket.socket) -> str:
    """Such as "http://127.0.0.1:8000"."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _limit_unread(listener: socket.socket) -> None:
    """For all its connections: one that neither reads nor answers is given up by the kernel, too."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # not everywhere
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(2 * STALL_SECONDS * 1000))
