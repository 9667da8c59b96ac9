"""The engine's steps in the trace."""

import time
from collections.abc import Callable

from mixtralkit.moe.timeline import STEPS, Span, Timeline


class StepSpans:
    """Keeps each step for the trace, if there is to be one; `tell` hears what is about to run."""

    def __init__(self, timeline: Timeline, tell: Callable[[str], None]) -> None:
        self._timeline = timeline
        self._tell = tell
        self._name, self._began = "", 0.0

    def begin(self, name: str) -> None:
        """A step begins."""
        self._tell(name)
        self._name, self._began = name, time.perf_counter()

    def end(self) -> None:
        """It has ended."""
        self._timeline.keep([Span(STEPS, self._name, -1, -1, self._began, time.perf_counter())])
