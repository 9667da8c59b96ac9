"""Tells those who wait for this process, such as clients of a server, that the group has failed; then it may end."""

import threading
from collections.abc import Callable

_WITHIN = 1.0  # seconds that the telling may take before the process ends without it


class Announcement:
    """Has `announce` called with the words of a failure, by whichever thread comes first, and once.

    It runs on a thread of its own, so that it cannot keep the process from ending, be it that it hangs or raises.
    """

    def __init__(self, announce: Callable[[str], None] | None) -> None:
        self._announce = announce
        self._lock = threading.Lock()

    def make(self, words: str) -> None:
        """Announce `words`; returns when that is done, by this or another thread, or has taken a second."""
        with self._lock:
            announce, self._announce = self._announce, None
            if announce is not None:
                thread = threading.Thread(target=announce, args=(words,), name="announcement", daemon=True)
                thread.start()
                thread.join(_WITHIN)
