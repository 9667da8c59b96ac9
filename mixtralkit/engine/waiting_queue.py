"""The requests that wait for a place. Pure."""

from bisect import bisect_left, insort

from mixtralkit.engine.progress import Progress


def _back_to_front(progress: Progress) -> tuple[int, int]:
    priority, arrival = progress.order
    return -priority, -arrival


class WaitingQueue:
    """In the requests' order: the smallest priority first, then the earliest. One that comes back finds its old place.

    The first is the last of the list, so that a step takes it away in constant time.
    """

    def __init__(self) -> None:
        self._waiting: list[Progress] = []

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def first(self) -> Progress:
        """The next one; there must be one."""
        return self._waiting[-1]

    def add(self, progress: Progress) -> None:
        """Let a request wait."""
        insort(self._waiting, progress, key=_back_to_front)

    def pop(self) -> Progress:
        """The next one, which waits no longer."""
        return self._waiting.pop()

    def remove(self, progress: Progress) -> None:
        """A request that is here waits no longer."""
        del self._waiting[bisect_left(self._waiting, _back_to_front(progress), key=_back_to_front)]
