"""What one rank can tell about the others without asking them: who is gone, who is silent, who is late."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress

from mixtralkit.dist.failure import Failure, loss
from mixtralkit.dist.heartbeat import INTERVAL, Heartbeat
from mixtralkit.dist.member import Member
from mixtralkit.dist.process_state import how_it_ended, is_stopped

_FRESH = 3 * INTERVAL  # while our own beat reaches the board that often, the board works


class Evidence:
    """Evidence of member `rank` against the other `members`.

    Silence is added up from `tick` to `tick` rather than read from a clock, and a long tick counts little: a rank
    that was stopped itself does not take the others for dead when it goes on.
    """

    def __init__(self, heartbeat: Heartbeat, members: Sequence[Member], rank: int) -> None:
        self._heartbeat, self._members, self._me = heartbeat, members, members[rank]
        self._last_counts = [0] * len(members)
        self.silent_for = [0.0] * len(members)

    def tick(self, seconds: float) -> None:
        """`seconds` have passed since the last tick."""
        for rank, beat in enumerate(self._heartbeat.beats):
            changed = beat.count != self._last_counts[rank]
            self._last_counts[rank] = beat.count
            self.silent_for[rank] = 0.0 if changed else self.silent_for[rank] + min(seconds, 2 * INTERVAL)

    def dead_neighbour(self) -> Failure | None:
        """A rank of this host whose process has ended."""
        for member in self.other_neighbours():
            if ending := how_it_ended(member.pid, member.started):
                return loss(member, ending, self._where(member.rank))
        return None

    def silent(self, after: float) -> Failure | None:
        """A rank that has not answered for `after` seconds."""
        suspects = [member for member in self._others() if self.is_silent(member, after)]
        # A process that is stopped explains the silence of those that wait for it.
        suspects.sort(key=lambda member: not self._is_stopped(member))
        return self.describe_silence(suspects[0]) if suspects else None

    def describe_silence(self, member: Member) -> Failure:
        """The words for a silent member."""
        stopped = " (its process is stopped)" if self._is_stopped(member) else ""
        what = f"has not answered for {self.silent_for[member.rank]:.0f} s{stopped}"
        return loss(member, what, self._where(member.rank))

    def late(self) -> Failure | None:
        """The rank that has begun the fewest collectives, if this one waits for it in a later one."""
        beats = self._heartbeat.beats
        slowest = min(self._others(), key=lambda member: beats[member.rank].begun)
        if beats[slowest.rank].begun >= beats[self._me.rank].begun:
            return None
        return loss(slowest, "has not come to a collective within its time-out", self._where(slowest.rank))

    def board_lost(self) -> Failure | None:
        """The store is gone, and with it the first rank's node as far as this rank can tell."""
        if self._heartbeat.lost is None:
            return None
        first = self._members[0]
        who = f"the process that serves the group's store, on the host of {first},"
        return Failure(rank=0, who=who, what=f"is gone ({self._heartbeat.lost})")

    def first_neighbour(self) -> Member:
        """The lowest rank on this host that can speak: its process lives and is not stopped."""
        here = (member for member in self._members if self._is_neighbour(member))
        return next(m for m in here if not how_it_ended(m.pid, m.started) and not self._is_stopped(m))

    def kill_stopped_neighbours(self) -> None:
        """Kill the ranks of this host that are stopped: they cannot end by themselves when the group does."""
        for member in self.other_neighbours():
            if self._is_stopped(member):
                with suppress(ProcessLookupError):  # another rank was quicker
                    os.kill(member.pid, signal.SIGKILL)

    def other_neighbours(self) -> list[Member]:
        """The other ranks of this host."""
        return [member for member in self._others() if self._is_neighbour(member)]

    def _others(self) -> Iterator[Member]:
        return (member for member in self._members if member is not self._me)

    def is_silent(self, member: Member, after: float) -> bool:
        """Whether `member` has not answered for `after` seconds, and not just because this rank hears nobody."""
        if member is self._me or self.silent_for[member.rank] < after:
            return False
        board_works = self.silent_for[self._me.rank] < _FRESH
        return board_works or not self._is_neighbour(member) or self._is_stopped(member)

    def _is_neighbour(self, member: Member) -> bool:
        return member.host_id == self._me.host_id

    def _is_stopped(self, member: Member) -> bool:
        return self._is_neighbour(member) and is_stopped(member.pid, member.started)

    def _where(self, rank: int) -> str:
        return self._heartbeat.beats[rank].where
