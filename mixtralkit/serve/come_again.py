"""When clients that are refused should come again: one after the other, no faster than they can be served.

If all came back after the same second, as many as were refused would be refused again, and to refuse them would take
the time in which others could be answered.
"""

import math
import time
from collections import deque
from collections.abc import Callable

from mixtralkit.serve.http_errors import RETRY_SECONDS, HttpError

LEAST_RATE = 20.0  # a second: to refuse so many costs next to nothing
MOST_SECONDS = 60  # what clients of OpenAI's API still wait for
WINDOW = 10.0  # seconds, over which it is counted how many are answered
_APART = 0.5  # seconds between two counts at least


class ComeAgain:
    """Gives times out like numbers in a queue. `answered` tells how many requests have been so far."""

    def __init__(self, answered: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._answered = answered
        self._clock = clock
        self._counts: deque[tuple[float, int]] = deque()
        self._next = 0.0

    def refusal(self) -> HttpError:
        """The answer to a request for which there is no room."""
        seconds = self._seconds()
        return HttpError(
            429,
            f"as many requests are being answered or wait already as there is room for; try again in {seconds} s",
            code="queue_full",
            headers={"retry-after": str(seconds)},
        )

    def _seconds(self) -> int:
        """How long one more client should wait."""
        now = self._clock()
        self._next = min(max(self._next, now) + 1 / max(self._rate(now), LEAST_RATE), now + MOST_SECONDS)
        return max(math.ceil(self._next - now), RETRY_SECONDS)

    def _rate(self, now: float) -> float:
        """Requests answered in a second, 0 as long as nobody has counted."""
        counts, count = self._counts, self._answered()
        while counts and counts[0][0] < now - WINDOW:
            counts.popleft()
        if not counts or counts[-1][0] < now - _APART:
            counts.append((now, count))
        began, before = counts[0]
        return (count - before) / max(now - began, _APART)
