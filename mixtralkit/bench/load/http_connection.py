"""One HTTP/1.1 connection: asyncio moves the bytes, h11 knows the protocol.

With 64 streams, a core's time for a chunk, its JSON included: httpx took 100 us, and up to 5 ms whenever a request
ended, in which no other was read; aiohttp 50, this 60.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator

import h11

READ_BYTES = 1 << 16
CONNECT_SECONDS = 30.0


class HttpFailed(Exception):
    """The connection was refused, broke, or spoke something else than HTTP."""


class HttpSilent(HttpFailed):
    """Nothing came for too long."""


class HttpConnection:
    """A connection that takes one request after the other; it is given up when nothing comes for `patience` seconds.

    All but `close` raise `HttpFailed`.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience: float) -> None:
        self._reader = reader
        self._writer = writer
        self._patience = patience
        self._protocol = h11.Connection(h11.CLIENT)
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._silent = False
        self._watch: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, host: str, port: int, tls: ssl.SSLContext | None, patience: float) -> "HttpConnection":
        """Connect, through `tls` if there is one."""
        try:
            opening = asyncio.open_connection(host, port, ssl=tls)
            return cls(*await asyncio.wait_for(opening, min(patience, CONNECT_SECONDS)), patience)
        except asyncio.TimeoutError as error:
            raise HttpSilent(f"no connection to {host}:{port} in {min(patience, CONNECT_SECONDS):g} s") from error
        except OSError as error:
            raise HttpFailed(f"no connection to {host}:{port}: {error}") from error

    @property
    def idle_seconds(self) -> float:
        """How long nothing has come."""
        return self._loop.time() - self._heard

    @property
    def reusable(self) -> bool:
        """Whether the last exchange is complete, and both sides stay for another."""
        ended = self._protocol.our_state is h11.DONE and self._protocol.their_state is h11.DONE
        return not self._reader.at_eof() and (ended or self._protocol.our_state is h11.IDLE)

    async def send(self, request: h11.Request, body: bytes) -> h11.Response:
        """Send a request; returns the head of its response, whose body is then to be read."""
        if self._protocol.our_state is h11.DONE:
            self._protocol.start_next_cycle()
        self._heard = self._loop.time()
        self._look_after()
        events = (request, h11.Data(data=body), h11.EndOfMessage())
        self._writer.write(b"".join(self._protocol.send(event) or b"" for event in events))
        while not isinstance(event := await self._next_event(), h11.Response):
            pass  # 100 Continue and the like
        return event

    async def parts(self) -> AsyncIterator[bytes]:
        """The body of the response, in the parts in which it comes."""
        while not isinstance(event := await self._next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                yield bytes(event.data)
        self._rest()

    def close(self) -> None:
        """End it."""
        self._rest()
        self._writer.transport.abort()

    async def _next_event(self) -> h11.Event:
        try:
            while (event := self._protocol.next_event()) is h11.NEED_DATA:
                self._protocol.receive_data(await self._reader.read(READ_BYTES))
                self._heard = self._loop.time()
        except (OSError, h11.RemoteProtocolError) as error:
            if self._silent:
                raise HttpSilent(f"nothing came for {self._patience:g} s") from error
            if self._reader.at_eof():
                raise HttpFailed("the server closed the connection before the response was complete") from error
            raise HttpFailed(str(error) or repr(error)) from error
        assert isinstance(event, h11.Event), event  # it is paused only if another request were sent meanwhile
        return event

    def _look_after(self) -> None:
        """See to it that silence ends the connection. A timer for every read would cost more than the read."""
        left = self._patience - self.idle_seconds
        if left > 0:
            self._watch = self._loop.call_later(left, self._look_after)
        else:
            self._silent = True
            self._writer.transport.abort()

    def _rest(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
