"""Devices for staging.py that are memory of the host: one that copies at once, one that copies late, in a thread."""

import queue
import threading
import time
from collections.abc import Callable

import torch

STALE = 0xA5  # what nobody has written yet


class AtOnce:
    """Copies are done when they have begun."""

    def __init__(self) -> None:
        self.buffers: list[torch.Tensor] = []
        self.closed = 0

    def buffer(self, nbytes: int) -> torch.Tensor:
        """See `Uploads`."""
        self.buffers.append(torch.full((nbytes,), STALE, dtype=torch.uint8))
        return self.buffers[-1]

    def empty(self, nbytes: int) -> torch.Tensor:
        """See `Uploads`."""
        return torch.full((nbytes,), STALE, dtype=torch.uint8)

    def copy(self, target: torch.Tensor, buffer: torch.Tensor) -> "Done":
        """See `Uploads`."""
        target.copy_(buffer)
        return Done(set_now=True)

    def hand_over(self, target: torch.Tensor) -> None:
        """See `Uploads`."""

    def close(self) -> None:
        """See `Uploads`."""
        self.closed += 1


class Done(threading.Event):
    """The end of a copy."""

    def __init__(self, *, set_now: bool = False) -> None:
        super().__init__()
        if set_now:
            self.set()

    def synchronize(self) -> None:
        """See `Underway`."""
        if not self.wait(30):
            raise TimeoutError("the copy never came to an end")


class Late(AtOnce):
    """Copies in order in a thread, as a GPU's stream does, and each only after a while.

    A buffer that is filled again before its copy is done gives the wrong bytes, and so does a target that is used
    before `hand_over` has waited.
    """

    def __init__(self, pause: Callable[[], float] = lambda: 0.002) -> None:
        super().__init__()
        self._pause = pause
        self._work: queue.SimpleQueue[tuple[torch.Tensor, torch.Tensor, Done] | None] = queue.SimpleQueue()
        self._last = Done(set_now=True)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def copy(self, target: torch.Tensor, buffer: torch.Tensor) -> Done:
        """See `Uploads`."""
        self._last = Done()
        self._work.put((target, buffer, self._last))
        return self._last

    def hand_over(self, target: torch.Tensor) -> None:
        """See `Uploads`."""
        self._last.synchronize()

    def close(self) -> None:
        """See `Uploads`."""
        super().close()
        self._work.put(None)
        self._thread.join(30)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            target, buffer, done = item
            time.sleep(self._pause())
            target.copy_(buffer)
            done.set()
