"""How much memory of its own this process takes: pages of mapped files, which ranks share, do not count."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STATUS = Path("/proc/self/status")
_EVERY = 0.005  # seconds between two looks


class PeakMemory:
    """The most private bytes seen so far; None where the system does not tell."""

    def __init__(self) -> None:
        self.nbytes = private_bytes()

    def look(self) -> None:
        """Look once more."""
        now = private_bytes()
        if now is not None:
            self.nbytes = max(now, self.nbytes or 0)


def private_bytes() -> int | None:
    """The bytes of anonymous memory that are resident now; None on systems other than Linux."""
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), None)


@contextmanager
def watched_memory() -> Iterator[PeakMemory]:
    """Watches this process's private memory for the time of a `with` block, from a thread: not for timed work."""
    peak, ended = PeakMemory(), threading.Event()

    def watch() -> None:
        while not ended.wait(_EVERY):
            peak.look()

    thread = threading.Thread(target=watch, name="private memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()
        peak.look()
