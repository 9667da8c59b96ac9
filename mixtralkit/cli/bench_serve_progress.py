"""How far a load test is: a line on the standard error that changes; where that is no terminal, one now and then."""

import shutil
import sys
import time
from typing import TYPE_CHECKING

from mixtralkit.cli.progress import BAR_EVERY, LINE_EVERY
from mixtralkit.cli.terminal import aside
from mixtralkit.sizes import counted, rate

if TYPE_CHECKING:
    from mixtralkit.bench.load.load_run import LoadCounts


class LoadProgress:
    """Shows the counts of a run of so many `requests`; tokens are shown as the pieces in which they come."""

    def __init__(self, requests: int) -> None:
        self._requests = requests
        self._terminal = sys.stderr.isatty()
        self._shown: float | None = None
        self._begin = self._pieces = 0.0
        self._open = False

    def update(self, counts: "LoadCounts") -> None:
        """Show the counts, unless they were shown just before."""
        now = time.monotonic()
        if self._shown is None:
            self._shown = self._begin = now
        if now - self._shown < (BAR_EVERY if self._terminal else LINE_EVERY):
            return
        self._shown = now
        words = self._words(counts, now - self._begin)
        if self._terminal:
            room = shutil.get_terminal_size().columns - 1
            aside(f"\r{words[:room]}\x1b[K", end="")
            self._open = True
        else:
            aside(words)

    def _words(self, counts: "LoadCounts", seconds: float) -> str:
        done = counts.answered + counts.failed
        failed = f", {counts.failed:,} failed" if counts.failed else ""
        return (
            f"{done:,} of {counted(self._requests, 'request')} done{failed}, {counts.running:,} under way, "
            f"{rate(counts.pieces / seconds)} tokens/s"
        )

    def close(self) -> None:
        """Take the line away, for what follows."""
        if self._open:
            aside("\r\x1b[K", end="")
            self._open = False
