"""The thread that shows the others that this rank lives, and learns the same about them.

It is the only one that talks to the board, over a connection of its own: where the network is cut, it hangs and
the rank does not.
"""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from mixtralkit.dist.board import Beat, Board, BoardLost
from mixtralkit.dist.failure import Failure

INTERVAL = 0.5  # seconds between two beats

T = TypeVar("T")


@dataclass
class _Job:
    call: Callable[[Board], Any]
    future: "Future[Any]"


class Heartbeat:
    """Beats for `rank` on `board`. `beats` is the last known beat of every rank, `failure` what is pinned up there.

    Both are replaced as a whole by the thread and may be read at any time. `lost` tells why the board is out of
    reach for good. `begun` is asked how many collectives this rank has begun.
    """

    def __init__(self, board: Board, rank: int, world_size: int) -> None:
        self._board, self._rank = board, rank
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._count = 0
        self._where = ""
        self.begun: Callable[[], int] = int
        self.beats = [Beat()] * world_size
        self.failure: Failure | None = None
        self.lost: str | None = None
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    @property
    def where(self) -> str:
        """Where this rank is."""
        return self._where

    def at(self, where: str) -> None:
        """Note that this rank has come to `where`. Cheap: it is told with the next beat."""
        self._where = where

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Beat no more. Does not wait: the thread may hang in a cut network."""
        self._jobs.put(None)

    def ask(self, call: Callable[[Board], T], timeout: float = 1.0) -> T:
        """Let the thread do `call` with the board; raises `BoardLost` after `timeout` seconds as well."""
        job = _Job(call, Future())
        self._jobs.put(job)
        try:
            return cast(T, job.future.result(timeout))
        except FutureTimeoutError as error:
            raise BoardLost(f"the store has not answered for {timeout:.0f} s") from error

    def refresh(self, timeout: float = 1.0) -> None:
        """Exchange beats now rather than at the next interval; without effect where the board is out of reach."""
        try:
            self.ask(lambda _: self._exchange(), timeout)
        except BoardLost:
            return

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            try:
                job = self._jobs.get(timeout=max(0.001, due - time.monotonic()))
            except queue.Empty:
                due = time.monotonic() + INTERVAL
                job = _Job(lambda _: self._exchange(), Future())
            if job is None:
                return
            self._do(job)

    def _do(self, job: _Job) -> None:
        try:
            if self.lost is not None:
                raise BoardLost(self.lost)
            job.future.set_result(job.call(self._board))
        except BoardLost as error:
            self.lost = str(error)
            job.future.set_exception(error)

    def _exchange(self) -> None:
        self._count += 1
        self._board.beat(self._rank, Beat(self._count, self.begun(), self._where))
        self.beats, failed = self._board.read()
        if failed and self.failure is None:
            self.failure = self._board.failure()
            self._board.count("acknowledged", 1)
