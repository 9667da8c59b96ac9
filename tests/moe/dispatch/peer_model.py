"""A model of the protocol of csrc/peer, small enough to try every interleaving of two ranks.

A rank's program is that of `carry_out` (waiting.h) with `push` and `pull` (exchange.h), one access to shared memory a
step; a cell holds its exchange and number, so that reading too early or writing too early shows. A rank sleeps without
a time-out: nothing may depend on it. There are no heads: every message has a cell here, as every real one has a head.
`broken` leaves one thing out, to show that the model would find it.

Accesses happen in one order here, as the sequentially consistent ones of the real thing do; that the others are ordered
by them is for ThreadSanitizer to find (tests/native/).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

# What can be left out, and what comes of it.
DEADLOCK, LOST = "nobody can go on", "in the place of"
BREAKAGES = {
    "no second look": DEADLOCK,  # after saying that one sleeps
    "ring before publish": DEADLOCK,
    "sleep without asking": DEADLOCK,  # whether somebody has rung meanwhile
    "wake without clearing": DEADLOCK,
    "send before reading": DEADLOCK,  # all of the message, instead of taking turns
    "no credits": LOST,
    "one slot": LOST,
}


class Fault(Exception):
    """The protocol does something wrong; says what."""


@dataclass(frozen=True)
class Rank:
    """Where a rank is: the exchange, the cells sent and taken in it, and its place in the program."""

    at: str = "push"
    then: str = ""  # where it goes on when it has rung
    exchange: int = 0
    sent: int = 0
    taken: int = 0
    moved: bool = False
    announced: bool = False


@dataclass(frozen=True)
class State:
    """Both ranks, and by owner of the slab: what the other has published and consumed, the bell, and the slots."""

    ranks: tuple[Rank, Rank]
    published: tuple[tuple[int, int], ...] = ((0, 0), (0, 0))
    consumed: tuple[tuple[int, int], ...] = ((0, 0), (0, 0))
    asleep: tuple[int, int] = (0, 0)
    slots: tuple[tuple[tuple[int, int], ...], ...] = ()


@dataclass(frozen=True)
class Model:
    """`cells[r][x]` cells go from rank r to the other in exchange x, through `places` places a slot."""

    cells: tuple[tuple[int, ...], tuple[int, ...]]
    places: int
    broken: str = ""

    def start(self) -> State:
        """Nothing written, both ranks at the beginning."""
        return State((Rank(), Rank()), slots=(((-1, -1),) * (2 * self.places),) * 2)

    def done(self, state: State) -> bool:
        """Whether both ranks have come to the end."""
        return all(rank.exchange == len(self.cells[0]) for rank in state.ranks)

    def steps(self, state: State) -> Iterator[State]:
        """Every state that one step of either rank leads to."""
        for r in (0, 1):
            if state.ranks[r].exchange < len(self.cells[0]) and state.ranks[r].at != "blocked":
                yield getattr(self, "_" + state.ranks[r].at)(state, r)

    def explore(self) -> int:
        """Try every interleaving; returns the number of states. Raises `Fault`."""
        seen, todo = {self.start()}, [self.start()]
        while todo:
            state = todo.pop()
            following = list(self.steps(state))
            if not following and not self.done(state):
                raise Fault(f"{DEADLOCK}: {state}")
            fresh = [one for one in following if one not in seen]
            seen.update(fresh)
            todo += fresh
        return len(seen)

    def _push(self, state: State, r: int) -> State:
        me = state.ranks[r]
        room = _parts(state.consumed[r], me.exchange) + self.places
        if self.broken == "no credits":
            room = 99
        may_write = me.sent < min(self.cells[r][me.exchange], room)
        if not may_write:
            return _go(state, r, "pull")
        return _go(state, r, "write")

    def _write(self, state: State, r: int) -> State:
        me = state.ranks[r]
        slots = _set(state.slots, 1 - r, _set(state.slots[1 - r], self._place(me, me.sent), (me.exchange, me.sent)))
        first, then = ("ring", "publish") if self.broken == "ring before publish" else ("publish", "pull")
        return replace(_go(state, r, first, then=then), slots=slots)

    def _publish(self, state: State, r: int) -> State:
        me = state.ranks[r]
        published = _set(state.published, 1 - r, (me.exchange, me.sent + 1))
        following = "pull" if self.broken == "ring before publish" else "ring"
        return replace(_go(state, r, following, then="pull", sent=me.sent + 1, moved=True), published=published)

    def _pull(self, state: State, r: int) -> State:
        me = state.ranks[r]
        if self.broken == "send before reading" and me.sent < self.cells[r][me.exchange]:
            return _go(state, r, "look")
        arrived = min(_parts(state.published[r], me.exchange), self.cells[1 - r][me.exchange])
        return _go(state, r, "read" if me.taken < arrived else "look")

    def _read(self, state: State, r: int) -> State:
        me = state.ranks[r]
        found = state.slots[r][self._place(me, me.taken)]
        if found != (me.exchange, me.taken):
            raise Fault(f"rank {r} reads {found} {LOST} {(me.exchange, me.taken)}")
        needed = self.cells[1 - r][me.exchange] > self.places
        return _go(state, r, "release" if needed else "look", taken=me.taken + 1, moved=True)

    def _release(self, state: State, r: int) -> State:
        me = state.ranks[r]
        consumed = _set(state.consumed, 1 - r, (me.exchange, me.taken))
        return replace(_go(state, r, "ring", then="look"), consumed=consumed)

    def _ring(self, state: State, r: int) -> State:
        return _go(state, r, "take_bell" if state.asleep[1 - r] else state.ranks[r].then)

    def _take_bell(self, state: State, r: int) -> State:
        was = state.asleep[1 - r]
        left = was if self.broken == "wake without clearing" else 0
        return replace(_go(state, r, "wake" if was else state.ranks[r].then), asleep=_set(state.asleep, 1 - r, left))

    def _wake(self, state: State, r: int) -> State:
        state = _go(state, r, state.ranks[r].then)
        return _go(state, 1 - r, "cancel") if state.ranks[1 - r].at == "blocked" else state

    def _look(self, state: State, r: int) -> State:
        me = state.ranks[r]
        complete = me.sent == self.cells[r][me.exchange] and me.taken == self.cells[1 - r][me.exchange]
        if complete or me.moved:
            rest: dict[str, Any] = {"exchange": me.exchange + 1, "sent": 0, "taken": 0} if complete else {}
            return _go(state, r, "cancel" if me.announced else "push", moved=False, **rest)
        if not me.announced:
            return _go(state, r, "announce")
        return _go(state, r, "sleep")

    def _announce(self, state: State, r: int) -> State:
        following = "sleep" if self.broken == "no second look" else "push"
        return replace(_go(state, r, following, announced=True), asleep=_set(state.asleep, r, 1))

    def _sleep(self, state: State, r: int) -> State:
        sleeps = state.asleep[r] or self.broken == "sleep without asking"
        return _go(state, r, "blocked" if sleeps else "cancel")

    def _cancel(self, state: State, r: int) -> State:
        return replace(_go(state, r, "push", announced=False), asleep=_set(state.asleep, r, 0))

    def _place(self, rank: Rank, cell: int) -> int:
        slot = 0 if self.broken == "one slot" else rank.exchange % 2
        return slot * self.places + cell % self.places


def _parts(stamp: tuple[int, int], exchange: int) -> int:
    """`parts_of` of layout.h."""
    return 99 if stamp[0] > exchange else stamp[1] if stamp[0] == exchange else 0


def _go(state: State, r: int, at: str, **changes: Any) -> State:
    return replace(state, ranks=_set(state.ranks, r, replace(state.ranks[r], at=at, **changes)))


def _set(items: Any, index: int, value: Any) -> Any:
    """The tuple `items` with another value in one place."""
    return (*items[:index], value, *items[index + 1 :])
