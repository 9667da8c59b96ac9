"""HTTP as the clients of the load speak it: connections are kept, cut off in the middle, or read from slowly."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11

from mixtralkit.bench.load.http_connection import HttpConnection

NARROW_BYTES = 4096  # what a slow reader lets come before it has read


@dataclass(frozen=True)
class Reply:
    """A response whose body is still coming, in `parts`; `retry_after` is in seconds."""

    status: int
    retry_after: float | None
    parts: AsyncIterator[bytes]

    async def body(self) -> bytes:
        """All of the body."""
        return b"".join([part async for part in self.parts])


class Client:
    """One client of the server at `url`. It keeps its connection from one request to the next, if both sides want to.

    Its methods raise `HttpFailed`, and `HttpSilent` when nothing comes for `patience` seconds.
    """

    def __init__(self, url: str, patience: float) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 80
        self._patience = patience
        self._kept: HttpConnection | None = None

    @asynccontextmanager
    async def post(self, path: str, body: bytes, *, narrow: bool = False) -> AsyncIterator[Reply]:
        """Send JSON. Who leaves the `with` block before the end of the body cuts the connection.

        A `narrow` connection is one of its own, in which little is under way: who does not read keeps the server from
        writing.
        """
        connection = await (self._narrow() if narrow else self._connection())
        try:
            head = await connection.send(self._request("POST", path, body), body)
            yield Reply(head.status_code, _retry_after(head), connection.parts())
        finally:
            if connection.reusable and not narrow and self._kept is None:
                self._kept = connection
            else:
                connection.close()

    async def break_off(self, path: str, body: bytes, sent: int) -> None:
        """Send so many bytes of a request, and go."""
        request = self._request("POST", path, body)
        content = (h11.Connection(h11.CLIENT).send(request) or b"") + body
        _, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(content[:sent])
        await writer.drain()
        writer.close()

    def close(self) -> None:
        """Close the connection that is kept."""
        if self._kept is not None:
            self._kept.close()

    async def _connection(self) -> HttpConnection:
        kept, self._kept = self._kept, None
        if kept is not None and kept.reusable:
            return kept
        if kept is not None:
            kept.close()
        return await HttpConnection.open(self.host, self.port, None, self._patience)

    async def _narrow(self) -> HttpConnection:
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)
        await asyncio.get_running_loop().sock_connect(connection, (self.host, self.port))
        return HttpConnection(*await asyncio.open_connection(sock=connection, limit=NARROW_BYTES), self._patience)

    def _request(self, method: str, path: str, body: bytes) -> h11.Request:
        headers = [("host", self.host), ("content-type", "application/json"), ("content-length", str(len(body)))]
        return h11.Request(method=method, target=path, headers=headers)


def _retry_after(head: h11.Response) -> float | None:
    found = [float(value) for name, value in head.headers if name == b"retry-after"]
    return found[0] if found else None
