"""Wakes up when a process of this machine ends: its exit status is only there until its parent has asked for it."""

import os
import select
import time
from collections.abc import Iterable


class ExitWatch:
    """Watches `pids`. Where the system has no pidfd (Linux from 5.3 does), it merely sleeps."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._poll = select.poll() if hasattr(os, "pidfd_open") else None
        for pid in pids:
            self._watch(pid)

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or at once when a watched process has ended; each wakes up once."""
        if self._poll is None:
            time.sleep(seconds)
            return
        for descriptor, _ in self._poll.poll(seconds * 1000):
            self._poll.unregister(descriptor)
            os.close(descriptor)

    def _watch(self, pid: int) -> None:
        if self._poll is None:
            return
        try:
            self._poll.register(os.pidfd_open(pid), select.POLLIN)
        except OSError:  # it has ended already, or the sandbox forbids it
            return
