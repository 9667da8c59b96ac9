"""Something that only rank 0 can do and that takes as long as a person takes, while the other ranks wait.

A collective would time out while somebody thinks. So rank 0 tells the others every few seconds that they are to
wait on, from a second thread: the first one may be reading a line.
"""

import threading
from collections.abc import Callable
from typing import Any

from mixtralkit.dist.collectives import Collectives

TICK = 1.0  # seconds; far below any time-out that can be asked for


def from_rank_0(control: Collectives, ask: Callable[[], Any]) -> Any:
    """What `ask` returns on rank 0, which must be JSON, on every rank; all ranks must call this together."""
    if control.size == 1:
        return ask()
    if control.rank == 0:
        with _Ticks(control):
            answer = ask()
        return control.broadcast_json({"answer": answer})["answer"]
    while "answer" not in (told := control.broadcast_json(None)):
        pass
    return told["answer"]


class _Ticks:
    """Tells the other ranks to wait, for the time of a `with` block."""

    def __init__(self, control: Collectives) -> None:
        self._control = control
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ticks", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.wait(TICK):
                self._control.broadcast_json({})
        except RuntimeError:
            return  # a rank is lost: the watchdog says so, and the next exchange fails on the main thread
