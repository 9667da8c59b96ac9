"""The engine's outputs for one HTTP request, which may be several engine requests, in the order in which they come."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from functools import partial

from mixtralkit.engine.output import Output
from mixtralkit.engine.request import Request
from mixtralkit.serve.http_errors import HttpError
from mixtralkit.serve.output_hub import OutputHub
from mixtralkit.serve.request_times import RequestTimes
from mixtralkit.serve.served_engine import ServedEngine

MOST_UNREAD = 4096  # outputs that a client may be behind


class Outputs:
    """An iterator of (index of the engine request, output), which ends when all the requests have.

    `fail` makes it raise: when the client has gone, the engine has failed, or `deadline` seconds have passed (which the
    event loop sees to, so that a request is answered although the engine hangs). Everything but `submit` is for the
    event loop's thread. `close` it in any case: the engine then forgets what has not ended.
    """

    def __init__(self, engine: ServedEngine, hub: OutputHub, times: RequestTimes, deadline: float) -> None:
        self._engine = engine
        self._hub = hub
        self._times = times
        self._loop = asyncio.get_running_loop()
        self._deadline = deadline
        self._numbers: dict[int, int] = {}
        self._count = 0
        self._ended: set[int] = set()
        self._queue: deque[tuple[int, Output]] = deque()
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
        """Give all the requests to the engine, or none; for a thread beside the loop too, but only once.

        Raises what the engine raises.
        """
        self._count = len(requests)
        try:
            for index, request in enumerate(requests):
                self._numbers[index] = self._engine.submit(request, self._hub.sink(partial(self._take, index)))
        except Exception:
            self._cancel()
            raise

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
                yield self._queue.popleft()
                if self._queue:
                    await asyncio.sleep(0)  # others get a turn, and a connection that was just lost is known to be
            if self._error is not None:
                raise self._error
            if len(self._ended) == self._count:
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
        elif len(self._queue) >= MOST_UNREAD:
            self.fail(HttpError(503, f"the client is {MOST_UNREAD} tokens behind and does not read on"))
        else:
            self._queue.append((index, output))
            self._wake()

    def _expire(self) -> None:
        message = f"the request was not answered within {self._deadline:g} s"
        self.fail(HttpError(503, message, code="request_timeout"))

    def _cancel(self) -> None:
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
