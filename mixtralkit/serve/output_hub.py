"""Brings outputs from the engine's thread to the event loop, with one wake-up for all the outputs of a step."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from mixtralkit.engine.output import OnOutput, Output
from mixtralkit.serve.http_errors import HttpError

Deliver = Callable[[Output], None]


class OutputHub:
    """Knows, besides, everybody who waits for outputs, so that all of them can be told of a failure.

    `bind` comes first, in the event loop. `sink`'s result, `fail` and `waiting` are for any thread, the rest for the
    loop's.
    """

    def __init__(self) -> None:
        self._inbox: deque[tuple[Deliver, Output]] = deque()
        self._woken = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[object, Callable[[HttpError], None]] = {}
        self._idle = threading.Event()
        self._idle.set()

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Deliver in this loop from now on."""
        self._loop = loop

    def join(self, member: object, fail: Callable[[HttpError], None]) -> None:
        """`member` begins to wait for outputs; a failure is told to its `fail`."""
        self._idle.clear()
        self._waiting[member] = fail

    def leave(self, member: object) -> None:
        """`member` waits no more."""
        self._waiting.pop(member, None)
        if not self._waiting:
            self._idle.set()

    def sink(self, deliver: Deliver) -> OnOutput:
        """What to hand to the engine so that `deliver` is called in the loop."""

        def on_output(output: Output) -> None:
            self._inbox.append((deliver, output))
            if not self._woken:  # the loop sets it back before it empties the inbox, so nothing is left behind
                self._woken = True
                self._call(self._empty_inbox)

        return on_output

    def fail(self, error: HttpError) -> None:
        """Tell `error` to all who wait."""
        self._call(self._fail_all, error)

    @property
    def waiting(self) -> int:
        """How many wait for outputs."""
        return len(self._waiting)

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait until nobody waits for outputs, for at most so long; returns whether that is so. Not for the loop."""
        return self._idle.wait(seconds)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it all who waited
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function, *arguments)

    def _empty_inbox(self) -> None:
        self._woken = False
        while self._inbox:
            deliver, output = self._inbox.popleft()
            deliver(output)

    def _fail_all(self, error: HttpError) -> None:
        for fail in list(self._waiting.values()):
            fail(error)
