"""Requests' bodies have a size and a time; what is over is refused before it is in memory, whatever the headers say."""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mixtralkit.serve.http_errors import HttpError, error_response

BODY_SECONDS = 60.0
_DISCARD_SECONDS = 5.0
_CLOSE = {"connection": "close"}


class LimitBody:
    """Middleware that answers 413 to a body of more than `most_bytes`, and 408 to one that does not come."""

    def __init__(self, app: ASGIApp, most_bytes: int, seconds: float = BODY_SECONDS) -> None:
        self._app = app
        self._most_bytes = most_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI; the application answers the `HttpError` that reading the body may raise."""
        headers = Headers(scope=scope)
        if "transfer-encoding" in headers and "content-length" in headers:
            # A proxy in front might believe the other one of the two, and see other requests than this server.
            error = HttpError(400, "a request has either content-length or transfer-encoding", headers=_CLOSE)
            await error_response(scope["path"], error)(scope, receive, send)
        elif int(headers.get("content-length", "0")) > self._most_bytes:
            if "expect" not in headers:  # else the client waits to hear whether it may send
                await _discard(receive)
            await error_response(scope["path"], self._too_large())(scope, receive, send)
        else:
            await self._app(scope, self._limited(receive), send)

    def _limited(self, receive: Receive) -> Receive:
        size = 0
        complete = False
        deadline = asyncio.get_running_loop().time() + self._seconds

        async def limited() -> Message:
            nonlocal size, complete
            if complete:
                return await receive()
            left = deadline - asyncio.get_running_loop().time()
            try:
                message = await asyncio.wait_for(receive(), max(left, 0))
            except asyncio.TimeoutError:
                raise HttpError(408, "the body did not come in time", headers=_CLOSE) from None
            size += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if size > self._most_bytes:
                if not complete:
                    await _discard(receive)
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> HttpError:
        message = f"the body is larger than {self._most_bytes} bytes, the most that is taken"
        return HttpError(413, message, code="body_too_large", headers=_CLOSE)


async def _discard(receive: Receive) -> None:
    """Let the client send on for a while, to nowhere: most read an answer only after that."""

    async def to_the_end() -> None:
        while (await receive()).get("more_body", False):
            pass

    try:
        await asyncio.wait_for(to_the_end(), _DISCARD_SECONDS)
    except asyncio.TimeoutError:
        return
