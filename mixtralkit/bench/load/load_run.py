"""Sends the requests of a load test, at their times or so many at a time, until all are answered or time is up."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from mixtralkit.bench.load.answer_stream import Answer
from mixtralkit.bench.load.load_client import Failure
from mixtralkit.bench.load.load_prompts import LoadRequest

Send = Callable[[LoadRequest, float], Awaitable[Answer | Failure]]
UNFINISHED = "unfinished"


@dataclass
class LoadCounts:
    """How far a run is: requests that are under way, answered and failed, and pieces of text that came."""

    running: int = 0
    answered: int = 0
    failed: int = 0
    pieces: int = 0


class LoadRun:
    """One run: `send` sends a request, and `now` tells the seconds since the beginning. `results` grow with it."""

    def __init__(self, send: Send, now: Callable[[], float], counts: LoadCounts, on_change: Callable[[], None]) -> None:
        self._send = send
        self._now = now
        self._counts = counts
        self._on_change = on_change
        self.results: list[Answer | Failure] = []

    async def at_times(self, requests: Sequence[LoadRequest], arrivals: Sequence[float]) -> None:
        """Send each request at its time, whatever became of those before it. Its times count from then on."""
        await _all(self._one_at(request, at) for request, at in zip(requests, arrivals, strict=True))

    async def at_most(self, requests: Sequence[LoadRequest], concurrency: int) -> None:
        """Send the requests in their order, the next one whenever fewer than `concurrency` are under way."""
        waiting = iter(requests)
        await _all(self._one_by_one(waiting) for _ in range(min(concurrency, len(requests))))

    async def _one_at(self, request: LoadRequest, at: float) -> None:
        await asyncio.sleep(at - self._now())
        await self._one(request, at)

    async def _one_by_one(self, waiting: Iterator[LoadRequest]) -> None:
        for request in waiting:
            await self._one(request, self._now())

    async def _one(self, request: LoadRequest, started: float) -> None:
        self._counts.running += 1
        try:
            self._note(await self._send(request, started))
        except asyncio.CancelledError:
            self._note(Failure(started, self._now() - started, UNFINISHED, "the run ended before the answer did"))
            raise

    def _note(self, result: Answer | Failure) -> None:
        self.results.append(result)
        self._counts.running -= 1
        self._counts.answered += isinstance(result, Answer)
        self._counts.failed += isinstance(result, Failure)
        self._on_change()


async def within(work: Awaitable[None], deadline: float | None, stopping: asyncio.Event) -> None:
    """Wait for `work`, but only for `deadline` seconds and until `stopping` is set: then it is cancelled."""
    working, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stopping.wait())
    await asyncio.wait([working, stopped], timeout=deadline, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not working.done():
        working.cancel()
        await asyncio.wait([working])
    if not working.cancelled():
        working.result()


async def _all(parts: Iterator[Awaitable[None]]) -> None:
    """Wait for all; the first error ends the others too."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
