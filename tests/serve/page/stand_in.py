"""A stand-in for the server: the page's real files and headers, and answers that the real one cannot give at will.

It serves hostile text, errors, and streams as slow as a test wants, and keeps what it was asked.
"""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from mixtralkit.serve.page_files import page_routes

PATIENCE = 10.0  # seconds until the server answers


@dataclass(frozen=True)
class Answer:
    """What the next request for text gets: a stream of `pieces`, or an error."""

    pieces: tuple[str, ...] = ("Hello", " there", ".")
    pause: float = 0.0  # seconds before each piece
    status: int = 200
    message: str = ""  # of an error; with status 200, of one that comes after the pieces
    retry_after: int | None = None
    finish: str = "stop"
    cut: bool = False  # the stream ends without a word


@dataclass
class StandIn:
    """What the server does next, and what it was asked."""

    url: str = ""
    key: str | None = None
    answer: Answer = field(default_factory=Answer)
    state: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    polls: int = 0
    left: threading.Event = field(default_factory=threading.Event)  # a client has gone before its answer's end

    def begin(self) -> None:
        """As at first, for the next test."""
        self.key, self.answer, self.state, self.asked = None, Answer(), {}, []
        self.polls, self.left = 0, threading.Event()

    @property
    def last_body(self) -> dict[str, Any]:
        """The body of the last request for text."""
        return self.asked[-1][1]


@contextmanager
def serving(stand_in: StandIn) -> Iterator[StandIn]:
    """The stand-in on a free port of this machine, until the end of the context."""
    config = uvicorn.Config(application(stand_in), host="127.0.0.1", port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    stand_in.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    try:
        yield stand_in
    finally:
        server.should_exit = server.force_exit = True
        thread.join(PATIENCE)


def application(stand_in: StandIn) -> FastAPI:
    """The routes that the page uses."""
    app = FastAPI(openapi_url=None)

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        return _refusal(stand_in, request) or JSONResponse(
            {"object": "list", "data": [{"id": "tiny", "object": "model"}]}
        )

    @app.get("/page/state.json")
    async def state(request: Request) -> Response:
        stand_in.polls += 1
        return _refusal(stand_in, request) or JSONResponse(stand_in.state)

    @app.post("/v1/chat/completions")
    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        return _refusal(stand_in, request) or await _answer(stand_in, request)

    app.include_router(page_routes())
    return app


def _refusal(stand_in: StandIn, request: Request) -> Response | None:
    if stand_in.key is None or request.headers.get("authorization") == f"Bearer {stand_in.key}":
        return None
    return _error(401, "this server needs an API key")


def _error(status: int, message: str, retry_after: int | None = None) -> Response:
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    body = {"error": {"message": message, "type": "error", "param": None, "code": None}}
    return JSONResponse(body, status_code=status, headers=headers)


async def _answer(stand_in: StandIn, request: Request) -> Response:
    answer = stand_in.answer
    stand_in.asked.append((request.url.path, await request.json()))
    if answer.status != 200:
        return _error(answer.status, answer.message, answer.retry_after)
    chat = request.url.path.endswith("chat/completions")
    return StreamingResponse(_events(stand_in.left, answer, chat=chat), media_type="text/event-stream")


async def _events(left: threading.Event, answer: Answer, *, chat: bool) -> AsyncIterator[str]:
    try:
        for piece in answer.pieces:
            await asyncio.sleep(answer.pause)
            yield _chunk({"delta": {"content": piece}} if chat else {"text": piece}, None)
    except asyncio.CancelledError:
        left.set()
        raise
    if answer.cut:
        return
    if answer.message:
        yield f"data: {json.dumps({'error': {'message': answer.message}})}\n\n"
    else:
        yield _chunk({"delta": {}} if chat else {"text": ""}, answer.finish)
        yield f"data: {json.dumps({'choices': [], 'usage': {'completion_tokens': len(answer.pieces)}})}\n\n"
    yield "data: [DONE]\n\n"


def _chunk(content: dict[str, Any], finish: str | None) -> str:
    return f"data: {json.dumps({'choices': [{'index': 0, **content, 'finish_reason': finish}]})}\n\n"
