"""Runs one rank's program from the start of the group to its exit status.

Whatever happens, each host is told the cause once, every rank ends with a status that is not 0, and none hangs.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from mixtralkit.dist.failure import Failure
from mixtralkit.dist.launch import Group, LaunchOptions, close_group, open_group
from mixtralkit.dist.process_state import ENDED_BY_SIGTERM, TERMINATED
from mixtralkit.dist.watchdog import Watchdog
from mixtralkit.env import launch_env, torchrun_error_file
from mixtralkit.errors import MixtralKitError

_TERMINATED_WITHIN = 5.0  # by then torchrun has ended the ranks whose neighbour has failed in the same way
_CAUSE_WITHIN = 0.7  # after SIGTERM: torchrun sends it to the other ranks when one has failed


def run_rank(main: Callable[[Group], int], options: LaunchOptions, report: Callable[[str], None]) -> int:
    """Run `main` with the group; returns its exit status, when all ranks have come to their end.

    `report` shows a text to the user. On one rank, errors other than `MixtralKitError` are raised. On several, a
    failure of any of them ends the process here: torch's objects could hang in an orderly exit. Call it from the
    main thread.
    """
    endings: list[_Ending] = []  # one, when there are several ranks and they have found each other
    try:
        group = open_group(options, lambda watchdog: endings.append(_Ending(watchdog, launch_env().rank, report)))
    except MixtralKitError as error:
        for ending in endings:
            ending.settle(error)
        return fail_before_group(error, report)
    if group.watchdog is None:
        return _run_alone(main, group, report)
    (ending,) = endings
    try:
        try:
            status = main(group)
            close_group(group)
        except Exception as error:  # noqa: BLE001 - whatever it is, all ranks must hear of it
            ending.settle(error)
    except KeyboardInterrupt:
        ending.leave(128 + signal.SIGINT)
    return status


def fail_before_group(error: MixtralKitError, report: Callable[[str], None]) -> int:
    """Report an error that this rank met before it joined a group; returns the exit status.

    Most of these, a wrong option say, are met by all ranks alike. Under torchrun the first rank of a node tells
    it, and its exit makes torchrun end the others; only one that is still there after a while tells it too.
    """
    env = launch_env()
    if env.under_torchrun and env.local_rank:
        time.sleep(_TERMINATED_WITHIN)
    report(str(error))
    _tell_torchrun(str(error))
    return error.exit_status


def _run_alone(main: Callable[[Group], int], group: Group, report: Callable[[str], None]) -> int:
    try:
        return main(group)
    except MixtralKitError as error:
        report(str(error))
        return error.exit_status


class _Ending:
    """The end of a rank for a failure of the group: told once, by whichever thread comes first."""

    def __init__(self, watchdog: Watchdog, rank: int, report: Callable[[str], None]) -> None:
        self._watchdog, self._rank, self._report = watchdog, rank, report
        self._lock = threading.Lock()
        self._terminating = False
        watchdog.on_failure = self.end
        self._awake, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, _noted)
        threading.Thread(target=self._wait_for_sigterm, name="sigterm", daemon=True).start()

    def settle(self, error: Exception) -> NoReturn:
        """End the process for an error that was raised here, by whosever fault."""
        self.end(self._watchdog.settle(error))

    def end(self, failure: Failure) -> NoReturn:
        """Tell `failure` if that is for this rank to do, and end the process."""
        with self._lock:  # never released: the process ends here
            if self._terminating and failure.what == ENDED_BY_SIGTERM:
                self.leave(TERMINATED)  # all ranks are being ended: no news
            try:
                self._tell(failure)
                self._watchdog.farewell()
                self._watchdog.evidence.kill_stopped_neighbours()
            finally:  # a rank that did not end would keep all the others
                self.leave(failure.status)

    def leave(self, status: int) -> NoReturn:
        """End the process now, without torch's tear-down."""
        try:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):  # nobody reads it, or it is closed
                    stream.flush()
        finally:
            os._exit(status)

    def _tell(self, failure: Failure) -> None:
        if self._watchdog.may_tell(failure):
            with suppress(OSError):  # nobody reads it
                self._report(failure.told_by_itself() if failure.rank == self._rank else str(failure))
        _tell_torchrun(str(failure))

    def _wait_for_sigterm(self) -> None:
        """SIGTERM needs a thread: the main one may be inside a collective, where no Python handler runs."""
        while os.read(self._awake, 1)[0] != signal.SIGTERM:
            pass
        self._terminating = True
        if (failure := self._watchdog.wait_for_cause(_CAUSE_WITHIN)) is not None:
            self.end(failure)
        with self._lock:  # unless the end has begun
            self.leave(TERMINATED)


def _noted(number: int, frame: FrameType | None) -> None:
    """A handler must exist for the signal to reach the wake-up pipe."""


def _tell_torchrun(text: str) -> None:
    """Have torchrun's closing report show `text` as the cause, in place of advice on how to get one."""
    if (path := torchrun_error_file()) is None:
        return
    with suppress(OSError):  # torchrun has removed the folder, or the disk is full: the cause has been told
        Path(path).write_text(json.dumps({"message": text, "timestamp": str(int(time.time()))}))
