"""uvicorn's connection with limits: on connections, on the time that a request's head takes, and on unread answers."""

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from mixtralkit.serve.http_errors import HttpError

MOST_CONNECTIONS = 4096
HEAD_BYTES = 32 * 1024  # request line and headers
HEAD_SECONDS = 10.0
STALL_SECONDS = 30.0  # for which a client may read nothing, while the buffer for it is full
LINGER_SECONDS = 1.0  # in which a refused client may read why


class HttpProtocol(H11Protocol):
    """One connection. What is no HTTP is answered with the same error object as everything else."""

    most_connections = MOST_CONNECTIONS
    head_seconds = HEAD_SECONDS
    stall_seconds = STALL_SECONDS

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head = _Patience(self, self.head_seconds)
        self._reading = _Patience(self, self.stall_seconds, shrinks=self._unsent)
        self._lingering = _Patience(self, LINGER_SECONDS)
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the head of the first request.

        What is written goes out at once. Else a token would wait for the client's word that the one before arrived,
        which takes 40 ms; asyncio sees to that only for sockets whose protocol was named when they were made.
        """
        super().connection_made(transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > self.most_connections:
            self._refuse(HttpError(503, f"{self.most_connections} connections are open already; try again later"))
        else:
            self._head.begin()

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head that has begun must be complete in time, and so must a body that is answered already."""
        if self._refused or self.transport.is_closing() or self.conn.their_state is h11.MUST_CLOSE:
            return  # after the only request of a connection nothing counts
        super().data_received(data)
        answered = self.conn.our_state is h11.DONE
        if self.conn.their_state is h11.IDLE or (self.conn.their_state is h11.SEND_BODY and answered):
            self._head.begin()  # uvicorn's own timer for idle connections ended with the first byte
        else:
            self._head.end()
        if self.conn.their_state is h11.DONE:
            self._read_ahead()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timers."""
        self._head.end()
        self._reading.end()
        self._lingering.end()
        self._unset_keepalive_if_required()  # uvicorn does so only where the client went in good order
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        super().pause_writing()
        self._reading.begin()

    def resume_writing(self) -> None:
        """The client has read on."""
        self._reading.end()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request, or has too long a head."""
        self._head.end()
        self._refuse(HttpError(400, "this is not a valid HTTP request, or its headers are too long"))

    def _read_ahead(self) -> None:
        """Go on reading while a request is answered, where uvicorn would not: else nobody sees that its client goes."""
        if len(self.conn.trailing_data[0]) > HEAD_BYTES:
            self.transport.abort()
        else:
            self.flow.resume_reading()

    def _unsent(self) -> int:
        return self.transport.get_write_buffer_size()

    def _refuse(self, error: HttpError) -> None:
        """Answer, and then only listen for a moment: to close at once could make the client lose the answer."""
        body = json.dumps(error.body()).encode()
        headers = {**error.headers, "content-type": "application/json", "connection": "close"}
        lines = [f"HTTP/1.1 {error.status} refused", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.write_eof()
        self._refused = True
        self._lingering.begin()


class _Patience:
    """Ends a connection that keeps the server waiting, from the first `begin` to `end`, for so many seconds.

    Where there is `shrinks`, it is asked then, and if it tells less than before, the time begins again.
    """

    def __init__(self, protocol: H11Protocol, seconds: float, shrinks: Callable[[], int] = lambda: 0) -> None:
        self._protocol = protocol
        self._seconds = seconds
        self._shrinks = shrinks
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        if self._timer is None:
            self._timer = self._protocol.loop.call_later(self._seconds, self._look, self._shrinks())

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, before: int) -> None:
        self._timer = None
        if self._shrinks() < before:
            self.begin()
        else:
            self._protocol.transport.abort()
