"""Sends requests to a server of OpenAI's API, and takes the times of what streams back."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mixtralkit.bench.load.answer_stream import Answer, AnswerStream, BadStream, error_message
from mixtralkit.bench.load.http_client import HttpClient
from mixtralkit.bench.load.http_connection import HttpFailed, HttpSilent
from mixtralkit.bench.load.load_plan import Endpoint
from mixtralkit.bench.load.load_prompts import LoadRequest
from mixtralkit.bench.load.stream_events import EventParser

OK = 200


@dataclass(frozen=True)
class Failure:
    """A request without a whole answer; `kind` is the HTTP status, or connection, timeout, stream or unfinished."""

    started: float
    latency: float
    kind: str
    message: str


class LoadClient:
    """Asks `model` at one of the endpoints. `on_piece` is called for every piece of text that comes.

    Times are told in seconds since it was made.
    """

    def __init__(self, http: HttpClient, model: str, endpoint: Endpoint, on_piece: Callable[[], object]) -> None:
        self._http = http
        self._model = model
        self._endpoint = endpoint
        self._on_piece = on_piece
        self._begin = time.perf_counter()

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._begin

    async def send(self, request: LoadRequest, started: float) -> Answer | Failure:
        """Send a request and read its answer; its times count from `started`, when it arrived."""
        try:
            return await self._exchange(request, started)
        except _BadStatus as error:
            kind, message = str(error.status), error_message(error.body)
        except BadStream as error:
            kind, message = "stream", str(error)
        except HttpSilent as error:
            kind, message = "timeout", str(error)
        except HttpFailed as error:
            kind, message = "connection", str(error)
        return Failure(started, self.now() - started, kind, message)

    async def _exchange(self, request: LoadRequest, started: float) -> Answer:
        stream, parser = AnswerStream(started, request.output_tokens), EventParser()
        async with self._http.exchange("POST", self._endpoint.path, self.body(request)) as response:
            if response.status != OK:
                raise _BadStatus(response.status, b"".join([part async for part in response.parts]))
            async for part in response.parts:
                now = self.now()
                for event in parser.push(part):
                    if stream.take(event, now):
                        self._on_piece()
        return stream.answer(self.now())

    def body(self, request: LoadRequest) -> dict[str, Any]:
        """The request as JSON; end-of-text tokens are ignored, or the lengths would not be those asked for."""
        prompt = {"prompt": request.prompt}
        messages = {"messages": [{"role": "user", "content": request.prompt}]}
        return {
            "model": self._model,
            **(prompt if self._endpoint is Endpoint.COMPLETIONS else messages),
            "max_tokens": request.output_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


class _BadStatus(Exception):
    """An answer with another status than 200."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
