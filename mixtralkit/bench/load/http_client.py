"""A small HTTP client for load tests: any number of connections at a time, which are kept and used again."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import h11

from mixtralkit.bench.load.http_connection import HttpConnection, HttpFailed, HttpSilent

# A connection that was idle for longer is not used again: servers close theirs after 5 s and more.
IDLE_SECONDS = 2.0
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class HttpResponse:
    """A response whose body is still coming, in `parts`."""

    status: int
    parts: AsyncIterator[bytes]


class HttpClient:
    """Asks the server at `url`, http or https, with the API key if there is one. Proxies are not asked.

    Its methods raise `HttpFailed`, and `HttpSilent` when nothing comes for `patience` seconds.
    """

    def __init__(self, url: str, key: str | None, patience: float) -> None:
        parts = urlsplit(url)
        self.url = url
        self._host = parts.hostname or ""
        self._port = parts.port or PORTS[parts.scheme]
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._path = parts.path.rstrip("/")
        self._patience = patience
        self._headers = [
            ("host", parts.netloc.rpartition("@")[2]),
            ("user-agent", "mixtralkit-bench"),
            ("accept-encoding", "identity"),
            *([("authorization", f"Bearer {key}")] if key else []),
        ]
        self._idle: list[HttpConnection] = []

    @asynccontextmanager
    async def exchange(self, method: str, path: str, content: Any = None) -> AsyncIterator[HttpResponse]:
        """Send a request, with `content` as JSON if there is any; its response may be read within the `with` block."""
        body = b"" if content is None else json.dumps(content).encode()
        length = [("content-type", "application/json"), ("content-length", str(len(body)))]
        request = h11.Request(method=method, target=self._path + path, headers=[*self._headers, *length])
        connection, status = await self._sent(request, body)
        try:
            yield HttpResponse(status, connection.parts())
        finally:
            if connection.reusable:
                self._idle.append(connection)
            else:
                connection.close()

    async def ask(self, method: str, path: str, content: Any = None) -> tuple[int, bytes]:
        """The status of a response, and its body."""
        async with self.exchange(method, path, content) as response:
            return response.status, b"".join([part async for part in response.parts])

    def close(self) -> None:
        """Close the connections that are kept."""
        while self._idle:
            self._idle.pop().close()

    async def _sent(self, request: h11.Request, body: bytes) -> tuple[HttpConnection, int]:
        """Send a request; returns its connection and the status. Kept ones that the server has closed are left."""
        while (kept := self._kept()) is not None:
            try:
                return kept, await _send(kept, request, body)
            except HttpSilent:
                raise
            except HttpFailed:
                continue  # it was closed just before, or meanwhile
        new = await HttpConnection.open(self._host, self._port, self._tls, self._patience)
        return new, await _send(new, request, body)

    def _kept(self) -> HttpConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and connection.idle_seconds < IDLE_SECONDS:
                return connection
            connection.close()
        return None


async def _send(connection: HttpConnection, request: h11.Request, body: bytes) -> int:
    try:
        return (await connection.send(request, body)).status_code
    except BaseException:
        connection.close()
        raise
