"""The engine's outputs for one HTTP request, which may be several engine requests, in the order in which they come."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from functools import partial

from mixtralkit.engine.output import Output
from mixtralkit.engine.request import QueueFull, Request
from mixtralkit.errors import MixtralKitError
from mixtralkit.serve.http_errors import HttpError, as_http_error, time_out
from mixtralkit.serve.output_hub import OutputHub
from mixtralkit.serve.request_times import RequestTimes
from mixtralkit.serve.served_engine import ServedEngine

MOST_UNREAD = 4096  # outputs of an engine request that a client may be behind
PLACE_SECONDS = 0.02  # between two looks whether there is a place for the next engine request


class Outputs:
    """An iterator of (index of the engine request, output), which ends when all the requests have.

    `fail` makes it raise: when the client has gone, the engine has failed, or `deadline` seconds have passed (which the
    event loop sees to, so that a request is answered although the engine hangs). For the event loop's thread. `close`
    it in any case: the engine then forgets what has not ended.
    """

    def __init__(self, engine: ServedEngine, hub: OutputHub, times: RequestTimes, deadline: float) -> None:
        self._engine = engine
        self._hub = hub
        self._times = times
        self._loop = asyncio.get_running_loop()
        self._deadline = deadline
        self._coming: deque[tuple[int, Request]] = deque()
        self._numbers: dict[int, int] = {}
        self._count = 0
        self._ended: set[int] = set()
        self._queue: deque[tuple[int, Output]] = deque()
        self._unread: Counter[int] = Counter()
        self._streams = False
        self._error: HttpError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer = self._loop.call_later(max(deadline - times.facts.seconds, 0), self._expire)
        hub.join(self, self.fail)
        times.facts.at_end(lambda: hub.leave(self))  # not before the answer, or an error, has been sent

    def close(self) -> None:
        """Nobody reads any more."""
        self._timer.cancel()
        self._cancel()

    def submit(self, requests: Sequence[Request]) -> None:
        """Give requests that have been checked to the engine, once: as many as it has room for, then the others.

        Raises `QueueFull` when there is no room for any, and `EngineClosed`.
        """
        self._count = len(requests)
        self._coming.extend(enumerate(requests))
        self._submit_next()

    def stream(self) -> None:
        """From now on a client that is too far behind ends the iteration: only one that is sent a stream can be."""
        self._streams = True

    def fail(self, error: HttpError) -> None:
        """Have the iteration raise `error`; the first one counts. What has come so far is given up."""
        if self._error is None:
            self._error = error
            self._queue.clear()
            self._cancel()
            self._wake()

    async def __aiter__(self) -> AsyncIterator[tuple[int, Output]]:
        """The outputs as they come. Raises `HttpError`."""
        while True:
            while self._queue:
                index, output = self._queue.popleft()
                self._unread[index] -= 1
                yield index, output
                if self._queue:
                    await asyncio.sleep(0)  # others get a turn, and a connection that was just lost is known to be
            if self._error is not None:
                raise self._error
            if len(self._ended) == self._count:
                self._times.complete()
                return
            self._waiter = self._loop.create_future()
            await self._waiter

    def _take(self, index: int, output: Output) -> None:
        if index in self._ended or self._error is not None:
            return
        if output.finish_reason is not None:
            self._ended.add(index)
        self._times.note(index, output)
        if output.finish_reason in ("error", "interrupted"):
            self.fail(_broken(output))
        elif self._streams and self._unread[index] >= MOST_UNREAD:
            self.fail(HttpError(503, f"the client is {MOST_UNREAD} tokens behind and does not read on"))
        else:
            self._queue.append((index, output))
            self._unread[index] += 1
            self._wake()

    def _submit_next(self) -> None:
        try:
            while self._coming:
                index, request = self._coming[0]
                sink = self._hub.sink(partial(self._take, index))
                self._numbers[index] = self._engine.submit(request, sink, checked=True)
                self._coming.popleft()
        except QueueFull:
            if not self._numbers:
                raise
            self._loop.call_later(PLACE_SECONDS, self._go_on)  # a place that comes free may be another's by then

    def _go_on(self) -> None:
        try:
            self._submit_next()
        except MixtralKitError as error:
            self.fail(as_http_error(error))

    def _expire(self) -> None:
        self.fail(time_out(self._deadline))

    def _cancel(self) -> None:
        self._coming.clear()
        running = {*self._numbers} - self._ended
        for index in running:
            self._engine.cancel(self._numbers[index])
        self._ended |= running
        self._times.give_up(len(running))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _broken(output: Output) -> HttpError:
    if output.finish_reason == "interrupted":
        return HttpError(503, "the server stopped before the request was answered", code="server_draining")
    message = output.error or "the engine could not go on with the request"
    return HttpError(400, message) if output.refused else HttpError(503, message, code="engine_error")
