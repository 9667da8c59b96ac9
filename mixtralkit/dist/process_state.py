"""What /proc says about a process of this machine: is it alive, stopped, or how it ended.

Torch's launcher reaps its children within a tenth of a second and their exit status is gone with that; a
process asked about later is only known to be gone. Without a /proc every process counts as running.
"""

import signal
from pathlib import Path

TERMINATED = 128 + signal.SIGTERM  # the exit status of a program that ends itself on SIGTERM, as shells count it
ENDED_BY_SIGTERM = "was ended by SIGTERM"
_PROC = Path("/proc")
# Positions in /proc/PID/stat behind the command name, which is in parentheses and may hold spaces (man 5 proc).
_STATE, _PARENT, _START_TIME, _EXIT_CODE = 0, 1, 19, 49


def start_time(pid: int) -> int:
    """When `pid` started, in clock ticks since boot: with the pid it names a process for good. 0 if unknown."""
    fields = _stat(pid)
    return int(fields[_START_TIME]) if fields else 0


def how_it_ended(pid: int, started: int) -> str | None:
    """None while the process that started at `started` lives; else a phrase such as "was killed by SIGKILL"."""
    if not started:
        return None
    fields = _stat(pid)
    if fields is None or int(fields[_START_TIME]) != started:
        return "is gone (killed, or out of memory)"
    if fields[_STATE] not in ("Z", "X"):
        return None
    return _ending(int(fields[_EXIT_CODE])) if len(fields) > _EXIT_CODE else "is gone"


def is_stopped(pid: int, started: int) -> bool:
    """Whether the process is stopped by SIGSTOP, SIGTSTP or a debugger."""
    fields = _stat(pid)
    return fields is not None and int(fields[_START_TIME]) == started and fields[_STATE] in ("T", "t")


def children_of(pid: int) -> list[int]:
    """The processes that `pid` has started and not yet waited for."""
    states = {int(entry.name): _stat(int(entry.name)) for entry in _PROC.glob("[0-9]*")}
    return [child for child, fields in states.items() if fields and int(fields[_PARENT]) == pid]


def _stat(pid: int) -> list[str] | None:
    try:
        content = (_PROC / str(pid) / "stat").read_text(encoding="latin-1")  # a process may call itself anything
    except OSError:
        return None
    return content.rpartition(")")[2].split()


def _ending(wait_status: int) -> str:
    number = wait_status & 0x7F
    if number == signal.SIGTERM or wait_status >> 8 == TERMINATED:
        return ENDED_BY_SIGTERM
    if not number:
        return f"ended with exit status {wait_status >> 8}"
    try:
        return f"was killed by {signal.Signals(number).name}"
    except ValueError:
        return f"was killed by signal {number}"
