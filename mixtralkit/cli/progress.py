"""A bar on the standard error while a checkpoint loads or is read; where that is no terminal, a line now and then."""

import shutil
import sys
import time
from collections.abc import Callable

from mixtralkit.cli.terminal import aside
from mixtralkit.sizes import size

BAR_EVERY = 0.1  # seconds between two states of the bar
LINE_EVERY = 10.0  # seconds between two lines in a log


class Progress:
    """Shows how much of a total is done, in bytes or what else `unit` writes.

    With `show` false it shows nothing, for ranks that are not the first.
    """

    def __init__(self, label: str, *, show: bool = True, unit: Callable[[int], str] = size) -> None:
        self._label = label
        self._unit = unit
        self._show = show
        self._terminal = sys.stderr.isatty()
        self._started = self._shown = time.monotonic()
        self._open = False

    def update(self, done: int, total: int) -> None:
        """`done` of `total` are there."""
        now = time.monotonic()
        finished = done >= total
        if not self._show or (not finished and now - self._shown < (BAR_EVERY if self._terminal else LINE_EVERY)):
            return
        self._shown = now
        rate = done / max(now - self._started, 1e-9)
        words = f"{self._unit(done)} of {self._unit(total)}, {self._unit(int(rate))}/s"
        if self._terminal:
            aside(f"\r{self._bar(done / max(total, 1), words)}", end="\n" if finished else "")
            self._open = not finished
        else:
            aside(f"{self._label}: {words}")

    def close(self) -> None:
        """End a bar that did not come to its end, so that what follows has a line of its own."""
        if self._open:
            aside("")
            self._open = False

    def _bar(self, share: float, words: str) -> str:
        room = max(10, min(40, shutil.get_terminal_size().columns - len(self._label) - len(words) - 12))
        filled = round(share * room)
        return f"{self._label} [{'#' * filled}{'.' * (room - filled)}] {share:4.0%} {words}\x1b[K"
