"""The requests that wait for a place. Pure."""

from bisect import bisect_left, insort

from mixtralkit.engine.request_progress import RequestProgress


def _back_to_front(progress: RequestProgress) -> tuple[int, int]:
    priority, arrival = progress.order
    return -priority, -arrival


class WaitingQueue:
    """In the requests' order: the smallest priority first, then the earliest. One that comes back finds its old place.

    The first is the last of the list, so that a step takes it away in constant time.
    """

    def __init__(self) -> None:
        self._waiting: list[RequestProgress] = []

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def first(self) -> RequestProgress:
        """The next one; there must be one."""
        return self._waiting[-1]

    def add(self, progress: RequestProgress) -> None:
        """Let a request wait."""
        insort(self._waiting, progress, key=_back_to_front)

    def pop(self) -> RequestProgress:
        """The next one, which waits no longer."""
        return self._waiting.pop()

    def remove(self, progress: RequestProgress) -> None:
        """A request that is here waits no longer."""
        del self._waiting[bisect_left(self._waiting, _back_to_front(progress), key=_back_to_front)]
