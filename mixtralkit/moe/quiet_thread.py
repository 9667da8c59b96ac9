"""A thread that leaves the processor to others."""

import os
import sys
import threading

_LEAST = 19  # of the priorities -20 to 19


def lower_priority() -> None:
    """Let the calling thread, and what it starts, run when nothing else wants to. On Linux; elsewhere nothing."""
    if sys.platform == "linux":  # which takes the number of a thread in the place of a process's
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LEAST)
