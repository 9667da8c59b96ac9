"""Runs one rank's program from the start of the group to its exit status.

Whatever happens, each host is told the cause once, every rank ends with a status that is not 0, and none hangs.
"""

import signal
import time
from collections.abc import Callable

from mixtralkit.dist.announcement import Announcement
from mixtralkit.dist.ending import Ending, leave, tell_torchrun
from mixtralkit.dist.launch import Group, LaunchOptions, close_group, open_group
from mixtralkit.dist.stop_signals import StopSignals
from mixtralkit.dist.watchdog import Watchdog
from mixtralkit.env import launch_env
from mixtralkit.errors import MixtralKitError

_TERMINATED_WITHIN = 5.0  # by then torchrun has ended the ranks whose neighbour has failed in the same way


def run_rank(
    main: Callable[[Group], int],
    options: LaunchOptions,
    report: Callable[[str], None],
    *,
    on_stop: Callable[[], None] | None = None,
    on_failure: Callable[[str], None] | None = None,
) -> int:
    """Run `main` with the group; returns its exit status, when all ranks have come to their end.

    `report` shows a text to the user. On one rank, errors other than `MixtralKitError` are raised. On several, a
    failure of any of them ends the process here: torch's objects could hang in an orderly exit. Call it from the
    main thread.

    With `on_stop`, the first SIGTERM or SIGINT does not end the process: it calls that, from another thread and
    perhaps before `main` has begun, and `main` is to return in good order. The second one ends the process as ever.
    `on_failure` gets the words of the failure as soon as one is certain, from another thread, once, and has a second
    for them; `main` may still be running.
    """
    announcement = Announcement(on_failure)
    endings: list[Ending] = []  # one, when there are several ranks and they have found each other

    def watch(watchdog: Watchdog) -> None:
        endings.append(Ending(watchdog, launch_env().rank, report, announcement, on_stop))

    try:
        group = open_group(options, watch)
    except MixtralKitError as error:
        for ending in endings:
            ending.settle(error)
        return fail_before_group(error, report)
    if group.watchdog is None:
        if on_stop is not None:
            StopSignals(on_stop, leave)
        return _run_alone(main, group, report, announcement)
    (ending,) = endings
    try:
        try:
            status = main(group)
            close_group(group)
        except Exception as error:  # noqa: BLE001 - whatever it is, all ranks must hear of it
            ending.settle(error)
    except KeyboardInterrupt:
        leave(128 + signal.SIGINT)
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
    tell_torchrun(str(error))
    return error.exit_status


def _run_alone(
    main: Callable[[Group], int], group: Group, report: Callable[[str], None], announcement: Announcement
) -> int:
    try:
        return main(group)
    except MixtralKitError as error:
        announcement.make(str(error))
        report(str(error))
        return error.exit_status
    except Exception as error:
        announcement.make(f"{type(error).__name__}: {error}")
        raise
