"""Notices a rank that fails, dies, stops or is late, and says which: torch's own errors name only a connection.

What a rank says itself (a failure pinned up on the board) comes first, then what the machine knows (a process of
this host is gone), then what silence tells. Whatever is found is pinned up, so that all ranks give one cause.
"""

import threading
import time
import traceback
from collections.abc import Callable, Sequence

from mixtralkit.dist.board import Board, BoardLost
from mixtralkit.dist.collective_error import is_collective_error
from mixtralkit.dist.evidence import Evidence
from mixtralkit.dist.exit_watch import ExitWatch
from mixtralkit.dist.failure import Failure, GroupFailure, own_failure
from mixtralkit.dist.heartbeat import Heartbeat
from mixtralkit.dist.member import Member
from mixtralkit.errors import MixtralKitError
from mixtralkit.log import get_logger

WARN_AFTER = 3.0  # seconds of silence before a warning
_SUSPECT_AFTER = 1.6  # three beats: enough once a collective has failed
_EVIDENCE_WITHIN = 2.5  # how long to look for the cause of a failed collective; longer than _SUSPECT_AFTER
_FIRST_RANK_SPEAKS = 1.0  # all ranks often meet the same user error: the others leave its telling to rank 0
_FAREWELL = 1.0  # how long a rank that ends waits for the others to have learnt why
_GRACE = 2.0  # from a certain failure to the call of on_failure
_TICK = 0.2
_WATCHED = 5.0  # by so much later than the time-out the watching thread has spoken, if a rank is silent


class Watchdog:
    """Watches over the group that `members` form, as member `rank` of it.

    Silence for `timeout` seconds, the collectives' own time-out, counts as death. When a failure is certain,
    `on_certain` is called from the watching thread, and some seconds later `on_failure`: a main thread that hangs
    cannot learn of it.
    """

    def __init__(self, board: Board, members: Sequence[Member], rank: int, timeout: float) -> None:
        self.members, self._me, self._timeout = tuple(members), members[rank], timeout
        self._heartbeat = Heartbeat(board, rank, len(members))
        self.evidence = Evidence(self._heartbeat, self.members, rank)
        self.on_certain: Callable[[Failure], None] = _nothing
        self.on_failure: Callable[[Failure], None] = _nothing
        self._found: Failure | None = None
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._warned: set[int] = set()
        self._logger = get_logger(__name__)

    def count_collectives(self, begun: Callable[[], int]) -> None:
        """Ask `begun` how many collectives this rank has begun: who has begun fewer than the others is late."""
        self._heartbeat.begun = begun

    def start(self) -> None:
        """Begin to beat and to watch."""
        self._heartbeat.start()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch and beat no more."""
        self._stopped.set()
        self._heartbeat.stop()

    def at(self, where: str) -> None:
        """Note where this rank is ("decode step 17"); shown when it is lost or late. Cheap: call it every step."""
        self._heartbeat.at(where)

    def find(self) -> Failure | None:
        """The failure that ends the group, if there is one."""
        with self._lock:
            self._found = self._found or self._heartbeat.failure or self._certain()
            return self._found

    def check(self) -> None:
        """Raise `GroupFailure` if the group has failed."""
        if (failure := self.find()) is not None:
            raise GroupFailure(failure)

    def settle(self, error: BaseException) -> Failure:
        """Why the group ends, given that `error` was raised here: by another rank's fault, or by this one's.

        An error of a collective is somebody else's fault if evidence turns up in time.
        """
        if isinstance(error, GroupFailure):
            return error.failure
        collective = is_collective_error(error)
        if (found := self._look_for_cause(self._patience(error, collective), suspicious=collective)) is not None:
            return found
        trace = "".join(traceback.format_exception(error)).rstrip()
        with self._lock:
            self._found = self._publish(own_failure(self._me, error, trace, self._heartbeat.where))
            return self._found

    def leave(self) -> None:
        """Wait until every rank has come to its end. Raises `GroupFailure` when one fails before."""
        try:
            left = self._left(1)
            while left < len(self.members):
                time.sleep(_TICK / 4)
                failure = self.find()
                left = self._left()  # counted afterwards: when all have left, the first of them may be gone already
                if failure is not None and left < len(self.members):
                    raise GroupFailure(failure)
        except BoardLost:
            pass  # who serves the board goes only when all have left, or else another rank tells the failure
        self.stop()

    def farewell(self) -> None:
        """Give the other ranks, and above all those on other hosts, a second to read why the group ends."""
        deadline = time.monotonic() + _FAREWELL
        try:
            while time.monotonic() < deadline:
                self._heartbeat.refresh()
                if self._heartbeat.ask(lambda board: board.count("acknowledged")) >= len(self.members):
                    return
                time.sleep(_TICK / 4)
        except BoardLost:
            return

    def may_tell(self, failure: Failure) -> bool:
        """Whether it is for this rank to tell the user of `failure`; on every host one rank does, and once.

        A rank that failed with an error of its own tells it itself, on its host.
        """
        if failure.error and self.members[failure.rank].host_id == self._me.host_id:
            return failure.rank == self._me.rank
        try:
            return self._heartbeat.ask(lambda board: board.count(f"told/{self._me.host_id}", 1)) == 1
        except BoardLost:
            here = [member for member in self.members if member.host_id == self._me.host_id]
            return next((member for member in here if member.rank != failure.rank), self._me) is self._me

    def wait_for_cause(self, patience: float) -> Failure | None:
        """`find`, for up to `patience` seconds."""
        return self._look_for_cause(patience, suspicious=False)

    def _certain(self) -> Failure | None:
        evidence = self.evidence
        found = evidence.dead_neighbour() or evidence.silent(self._timeout) or evidence.board_lost()
        return self._publish(found) if found else None

    def _left(self, more: int = 0) -> int:
        return self._heartbeat.ask(lambda board: board.count("left", more), self._timeout + _WATCHED)

    def _patience(self, error: BaseException, collective: bool) -> float:
        if collective:
            return _EVIDENCE_WITHIN
        return _FIRST_RANK_SPEAKS if isinstance(error, MixtralKitError) and self._me.rank != 0 else 0.0

    def _look_for_cause(self, patience: float, *, suspicious: bool) -> Failure | None:
        deadline = time.monotonic() + patience
        while True:
            if (found := self.find()) is not None:
                return found
            self._heartbeat.refresh()
            if (found := self.find()) is not None:
                return found
            if suspicious and (suspect := self.evidence.silent(_SUSPECT_AFTER)) is not None:
                return self._publish(suspect)
            if time.monotonic() >= deadline:
                late = self.evidence.late() if suspicious else None
                return self._publish(late) if late else None
            time.sleep(_TICK / 4)

    def _publish(self, failure: Failure) -> Failure:
        """Pin up `failure`; returns the one that was there before, if there was."""
        try:
            return self._heartbeat.ask(lambda board: board.publish(failure))
        except BoardLost:
            return failure

    def _watch(self) -> None:
        last = time.monotonic()
        exits = ExitWatch(member.pid for member in self.evidence.other_neighbours())
        while not self._stopped.is_set():
            exits.wait(_TICK)
            now = time.monotonic()
            self.evidence.tick(now - last)
            last = now
            self._warn()
            if not self._stopped.is_set() and (failure := self.find()) is not None:
                self.on_certain(failure)
                if not self._stopped.wait(_GRACE):
                    self.on_failure(failure)
                return

    def _warn(self) -> None:
        """Say once that a rank is silent, on the first rank of each host that can speak."""
        for member in self.members:
            silent_for = self.evidence.silent_for[member.rank]
            if silent_for < WARN_AFTER:
                self._warned.discard(member.rank)
            elif member.rank not in self._warned and self.evidence.is_silent(member, WARN_AFTER):
                self._warned.add(member.rank)
                if self.evidence.first_neighbour() is self._me:
                    self._logger.warning(str(self.evidence.describe_silence(member)))


def _nothing(failure: Failure) -> None:
    """Leave it to others to do something about `failure`."""
