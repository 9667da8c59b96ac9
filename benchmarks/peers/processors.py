"""How busy the processors are: does anybody else use them, before a run and meanwhile? Only the standard library."""

import os
import time
from pathlib import Path

QUIET = 0.15  # processors that others may use before and during a run
PATIENCE = 120.0  # seconds to wait for a quiet machine
TICKS = os.sysconf("SC_CLK_TCK")


def wait_for_quiet() -> None:
    """Wait until hardly anything runs, but not for ever."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        before = busy_seconds()
        time.sleep(1)
        if busy_seconds() - before <= QUIET:
            return


def busy_seconds() -> float:
    """What all processors together have worked, or hypervisors taken away, since the start of the system (proc(5))."""
    try:
        numbers = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
    except OSError:
        return 0.0
    user, nice, system, _idle, _waiting, irq, softirq, _steal = map(int, numbers)
    return (user + nice + system + irq + softirq) / TICKS
