"""One client of the load: asks this and that, mostly reads the answers, and does not always wait for their end."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.load.answers import BrokenAnswer, Choices, events, streamed_answer, whole_answer
from benchmarks.load.client import Client, Reply
from benchmarks.load.random_bodies import Asked, RandomBodies
from benchmarks.load.refused_bodies import REFUSED
from benchmarks.load.tally import Tally
from mixtralkit.bench.load.http_connection import HttpFailed

BUSY = (429, 503)
SHOWN = 500  # characters of a request that a problem is told with


class Unexpected(Exception):
    """An answer that the request should not have got."""


class Visitor:
    """Sends what `bodies` draws. What it does with the answers is drawn, too."""

    def __init__(self, client: Client, bodies: RandomBodies, numbers: random.Random, tally: Tally) -> None:
        self._client = client
        self._bodies = bodies
        self._random = numbers
        self._tally = tally

    async def visit(self) -> None:
        """One errand; what goes wrong becomes a problem of the tally."""
        errands, shares = zip(*ERRANDS, strict=True)
        errand: Errand = self._random.choices(errands, shares)[0]
        asked = self._bodies.draw()
        try:
            await errand(self, asked)
        except (HttpFailed, BrokenAnswer, Unexpected, OSError) as error:
            self._tally.problem(f"{errand.__name__}: {error!r}; {asked.path} {str(asked.fields)[:SHOWN]}")
        self._tally.count(errand.__name__)
        self._tally.count("errands")

    async def asks_twice(self, asked: Asked) -> None:
        """As a stream and as a whole, in either order, or both at a time; the answers must be the same."""
        ways: list[Callable[[Asked], Awaitable[Choices]]] = [self._streamed, self._whole]
        self._random.shuffle(ways)
        if self._random.random() < 0.3:
            one, other = await asyncio.gather(*(way(asked) for way in ways))
        else:
            one, other = [await way(asked) for way in ways]
        self._compare(one, other)

    async def reads_slowly(self, asked: Asked) -> None:
        """More slowly than the answer comes; it must be the same as for somebody else."""
        self._compare(await self._streamed(asked, pause=self._random.uniform(0.01, 0.05)), await self._whole(asked))

    async def asks(self, asked: Asked) -> None:
        """Once, in either way."""
        await self._random.choice((self._streamed, self._whole))(asked)

    async def leaves_a_stream(self, asked: Asked) -> None:
        """After some events, or before the first."""
        left = self._random.choice((0, 0, 1, 2, 5, 10))
        async with self._answered(asked, stream=True) as reply:
            async for _ in events(reply.parts):
                left -= 1
                if left < 0:
                    return

    async def leaves_while_waiting(self, asked: Asked) -> None:
        """After a moment; the answer was to come as a whole."""

        async def ask() -> None:
            async with self._client.post(asked.path, asked.body(stream=False)) as reply:
                await reply.body()

        asking = asyncio.create_task(ask())
        await asyncio.wait([asking], timeout=self._random.uniform(0, 0.5))
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    async def breaks_off(self, asked: Asked) -> None:
        """In the middle of its own request."""
        body = asked.body(stream=True)
        await self._client.break_off(asked.path, body, self._random.randrange(200 + len(body)))

    async def does_not_read(self, asked: Asked) -> None:
        """Much is on its way, and nobody takes it; after a while the client goes."""
        asked = self._bodies.endless()
        async with self._answered(asked, stream=True, narrow=True):
            await asyncio.sleep(self._random.uniform(0.5, 5))

    async def is_refused(self, asked: Asked) -> None:
        """For what it has sent, or before anybody looks at that."""
        path, body, status = self._random.choice(REFUSED)
        async with self._client.post(path, body) as reply:
            answer = await reply.body()
        if reply.status in BUSY:
            _patience(reply.status, reply.retry_after, answer)
        elif reply.status != status or b'"message"' not in answer:
            raise Unexpected(f"{reply.status} instead of {status} for {path} {body[:100]!r}: {answer[:200]!r}")

    async def _whole(self, asked: Asked) -> Choices:
        async with self._answered(asked, stream=False) as reply:
            return whole_answer(await reply.body())

    async def _streamed(self, asked: Asked, pause: float = 0.0) -> Choices:
        async with self._answered(asked, stream=True, narrow=pause > 0) as reply:
            return await streamed_answer(_slowly(events(reply.parts), pause))

    @asynccontextmanager
    async def _answered(self, asked: Asked, *, stream: bool, narrow: bool = False) -> AsyncIterator[Reply]:
        """The reply to a request, sent again as often as the server is busy, when it says so."""
        body = asked.body(stream=stream)
        while True:
            async with self._client.post(asked.path, body, narrow=narrow) as reply:
                if reply.status == 200:
                    yield reply
                    self._tally.count("answered")
                    return
                wait = _patience(reply.status, reply.retry_after, await reply.body())
            self._tally.count(f"status {reply.status}")
            await asyncio.sleep(wait * self._random.uniform(1, 1.5))

    def _compare(self, one: Choices, other: Choices) -> None:
        self._tally.count("compared", len(one))
        if one != other:
            raise Unexpected(f"the same request got {one} and {other}")


Errand = Callable[[Visitor, Asked], Awaitable[None]]
ERRANDS: tuple[tuple[Errand, int], ...] = (
    (Visitor.asks_twice, 35),
    (Visitor.reads_slowly, 8),
    (Visitor.asks, 20),
    (Visitor.leaves_a_stream, 12),
    (Visitor.leaves_while_waiting, 8),
    (Visitor.breaks_off, 4),
    (Visitor.does_not_read, 3),
    (Visitor.is_refused, 10),
)


def _patience(status: int, retry_after: float | None, answer: bytes) -> float:
    """After how many seconds to ask again. Raises `Unexpected` for what is no "later"."""
    if status not in BUSY or retry_after is None:
        raise Unexpected(f"{status}, Retry-After {retry_after}: {answer[:200]!r}")
    return retry_after


async def _slowly(documents: AsyncIterator[dict[str, Any]], pause: float) -> AsyncIterator[dict[str, Any]]:
    async for document in documents:
        yield document
        if pause:
            await asyncio.sleep(pause)
