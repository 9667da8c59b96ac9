"""The end of a rank: the failure is told, on each host once, and the process is gone in any case."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from mixtralkit.dist.announcement import Announcement
from mixtralkit.dist.failure import Failure
from mixtralkit.dist.process_state import ENDED_BY_SIGTERM
from mixtralkit.dist.stop_signals import StopSignals
from mixtralkit.dist.watchdog import Watchdog
from mixtralkit.env import torchrun_error_file

_CAUSE_WITHIN = 0.7  # seconds after SIGTERM: torchrun sends it to the other ranks when one has failed


class Ending:
    """The end of a rank for a failure of the group: told once, by whichever thread comes first; or for a signal.

    The `announcement` is made as soon as the failure is certain, `report` shows it to the user of this host. `on_stop`
    is the first signal's (`StopSignals`).
    """

    def __init__(
        self,
        watchdog: Watchdog,
        rank: int,
        report: Callable[[str], None],
        announcement: Announcement,
        on_stop: Callable[[], None] | None,
    ) -> None:
        self._watchdog, self._rank, self._report, self._announcement = watchdog, rank, report, announcement
        self._lock = threading.Lock()
        watchdog.on_certain = self._announce
        watchdog.on_failure = self.end
        self._signals = StopSignals(on_stop, self._terminate)

    def settle(self, error: Exception) -> NoReturn:
        """End the process for an error that was raised here, by whosever fault."""
        self.end(self._watchdog.settle(error))

    def end(self, failure: Failure) -> NoReturn:
        """Tell `failure` if that is for this rank to do, and end the process."""
        with self._lock:  # never released: the process ends here
            if self._signals.status and failure.what == ENDED_BY_SIGTERM:
                leave(self._signals.status)  # all ranks are being ended: no news
            try:
                self._announce(failure)
                self._tell(failure)
                self._watchdog.farewell()
                self._watchdog.evidence.kill_stopped_neighbours()
            finally:  # a rank that did not end would keep all the others
                leave(failure.status)

    def _terminate(self, status: int) -> NoReturn:
        """End the process because a signal says so; if that came for a failure of another rank, for that."""
        if (failure := self._watchdog.wait_for_cause(_CAUSE_WITHIN)) is not None:
            self.end(failure)
        with self._lock:  # unless the end has begun
            leave(status)

    def _announce(self, failure: Failure) -> None:
        self._announcement.make(str(failure))

    def _tell(self, failure: Failure) -> None:
        if self._watchdog.may_tell(failure):
            with suppress(OSError):  # nobody reads it
                self._report(failure.told_by_itself() if failure.rank == self._rank else str(failure))
        tell_torchrun(str(failure))


def leave(status: int) -> NoReturn:
    """End the process now, without torch's tear-down."""
    try:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # nobody reads it, or it is closed
                stream.flush()
    finally:
        os._exit(status)


def tell_torchrun(text: str) -> None:
    """Have torchrun's closing report show `text` as the cause, in place of advice on how to get one."""
    if (path := torchrun_error_file()) is None:
        return
    with suppress(OSError):  # torchrun has removed the folder, or the disk is full: the cause has been told
        Path(path).write_text(json.dumps({"message": text, "timestamp": str(int(time.time()))}))
