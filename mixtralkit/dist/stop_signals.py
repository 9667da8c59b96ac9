"""Hears the signals that ask a process to stop, on a thread of its own.

The main thread may be inside a collective or a kernel, where no Python handler runs; but Python writes the number of a
signal into a pipe at once.
"""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType


class StopSignals:
    """Calls `end` with 128 + SIGTERM, the exit status as shells count it, when that signal comes.

    With `on_stop`, the first SIGTERM or SIGINT calls that instead, to stop in good order, and the next one of either
    calls `end`. Both are called on threads of their own. `status` is 128 + the last signal heard, 0 before the first.
    Make it in the main thread, once a process.
    """

    def __init__(self, on_stop: Callable[[], None] | None, end: Callable[[int], None]) -> None:
        self._on_stop, self._end = on_stop, end
        self._numbers = {signal.SIGTERM} if on_stop is None else {signal.SIGTERM, signal.SIGINT}
        self.status = 0
        self._awake, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in self._numbers:
            signal.signal(number, _noted)
        threading.Thread(target=self._listen, name="signals", daemon=True).start()

    def _listen(self) -> None:
        if self._on_stop is not None:
            self._wait()
            # Not from here: whatever it does, the second signal must be heard.
            threading.Thread(target=self._on_stop, name="stop", daemon=True).start()
        self._wait()
        self._end(self.status)

    def _wait(self) -> None:
        """Return at the next signal; the pipe tells of all those that have a Python handler."""
        while (number := os.read(self._awake, 1)[0]) not in self._numbers:
            pass
        self.status = 128 + number


def _noted(number: int, frame: FrameType | None) -> None:
    """A handler must exist for the signal to reach the pipe."""
