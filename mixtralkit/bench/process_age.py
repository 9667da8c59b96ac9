"""How long ago this process was started, before any of its code ran."""

import os
import time
from pathlib import Path


def process_age() -> float | None:
    """Seconds since the start of this process, to 10 ms or so; None where the system does not tell."""
    try:
        stat = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
        started = int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of proc(5)
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError):
        return None
