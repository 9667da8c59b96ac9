"""Passes a launcher's signals on to its ranks, which then have the time that they need to stop in good order.

Torch's own launcher gives them 30 seconds and then kills them.
"""

import os
import signal
from collections.abc import Collection
from contextlib import suppress
from types import FrameType, TracebackType

from torch.distributed.elastic.multiprocessing import SignalException

from mixtralkit.dist.process_state import children_of

FORWARDED = signal.SIGTERM, signal.SIGINT
_HANDLED_BY_TORCH = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT


class SignalForwarding:
    """While this context is open, the first of the signals `numbers` reaches the children of this process, as SIGTERM.

    Where there are no children yet, and at the second signal, `SignalException` is raised, which makes torch's launcher
    end them. `received` is the last signal that came, `left_to_torch` that launcher's setting for all other signals.
    Enter it from the main thread.
    """

    def __init__(self, numbers: Collection[signal.Signals]) -> None:
        self.received: signal.Signals | None = None
        self.left_to_torch = ",".join(number.name for number in _HANDLED_BY_TORCH if number not in numbers)
        self._former = {number: signal.getsignal(number) for number in numbers}

    def __enter__(self) -> "SignalForwarding":
        for number in self._former:
            signal.signal(number, self._forward)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _forward(self, number: int, _: FrameType | None) -> None:
        first, self.received = self.received is None, signal.Signals(number)
        children = children_of(os.getpid())
        if not first or not children:
            # Whichever it was, the ranks get SIGTERM: they need not listen to SIGINT, and may be inside a collective.
            raise SignalException(f"got {self.received.name}", signal.SIGTERM)
        for pid in children:
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, signal.SIGTERM)
