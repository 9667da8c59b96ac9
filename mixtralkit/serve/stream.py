"""Server-sent events: one JSON document each, then "[DONE]"; what fails in between is an event, too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mixtralkit.log import get_logger
from mixtralkit.serve.http_errors import ClientGone, as_http_error, error_response
from mixtralkit.serve.long_json import long_json
from mixtralkit.serve.outputs import Outputs

_logger = get_logger(__name__)
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # or nginx holds events back
]
DONE = b"data: [DONE]\n\n"
Documents = AsyncIterator[dict[str, Any]]


class EventStream(Response):
    """Sends `documents`, which are made of `outputs`, and closes the outputs in any case.

    Nothing is sent before the first document is there, so what goes wrong until then is answered with its own status.
    """

    def __init__(self, documents: Documents, outputs: Outputs) -> None:
        super().__init__()
        self._documents = documents
        self._outputs = outputs
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        try:
            async with watched(receive, self._outputs):
                await self._send_all(send)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 - too late for anybody else to answer it
            await self._send_error(error, scope, receive, send)
        finally:
            self._outputs.close()

    async def _send_all(self, send: Send) -> None:
        async for document in self._documents:
            await self._send(_event(await long_json(document)), send)
        await self._send(DONE, send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, body: bytes, send: Send) -> None:
        if not self._begun:
            self._begun = True
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": body, "more_body": True})

    async def _send_error(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        known = as_http_error(error)
        if known.status == 500:
            _logger.error("a stream failed", exc_info=error)
        if not self._begun:
            await error_response(scope["path"], known)(scope, receive, send)
        else:
            body = _event(await long_json(known.body())) + DONE
            await send({"type": "http.response.body", "body": body, "more_body": False})


@asynccontextmanager
async def watched(receive: Receive, outputs: Outputs) -> AsyncIterator[None]:
    """Within this block `outputs` fail with `ClientGone` as soon as the client has closed the connection."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        outputs.fail(ClientGone())

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher


def _event(document: bytes) -> bytes:
    return b"data: " + document + b"\n\n"
