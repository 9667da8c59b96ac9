"""What runs in each step. Pure: every rank keeps a copy and, fed the same events, plans the same steps."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where a request runs: on which rank, and in which slot of that rank's KV cache."""

    rank: int
    slot: int


@dataclass(frozen=True)
class Step:
    """The requests, by number, that each rank works on: whole prompts, or one token of each running request."""

    prefill: bool
    work: tuple[tuple[int, ...], ...]

    @property
    def longest(self) -> int:
        """The most requests that any rank has in this step."""
        return max(len(requests) for requests in self.work)


class Scheduler:
    """First come, first served; a request goes to the rank with the most free slots.

    Prompts are taken in as soon as there is a slot, in steps of their own of at most `prefill_tokens` a rank (one
    prompt may be longer), so that memory stays bounded; between them all running requests advance by a token together.
    """

    def __init__(
        self, prompt_lengths: Sequence[int], *, world_size: int, slots_per_rank: int, prefill_tokens: int
    ) -> None:
        self._lengths = tuple(prompt_lengths)
        self._waiting = deque(range(len(prompt_lengths)))
        self._free = [list(range(slots_per_rank)) for _ in range(world_size)]
        self._prefill_tokens = prefill_tokens
        self._running: dict[int, Place] = {}

    @property
    def running(self) -> tuple[int, ...]:
        """The requests that have a place now."""
        return tuple(sorted(self._running))

    def place(self, request: int) -> Place:
        """Where a running request is."""
        return self._running[request]

    def next_step(self) -> Step | None:
        """The next step, or None when every request has finished."""
        admitted = self._admit()
        requests = admitted or self.running
        if not requests:
            return None
        ranks = range(len(self._free))
        work = tuple(tuple(r for r in requests if self._running[r].rank == rank) for rank in ranks)
        return Step(prefill=bool(admitted), work=work)

    def finish(self, request: int) -> None:
        """Give the request's slot back."""
        place = self._running.pop(request)
        self._free[place.rank].append(place.slot)
        self._free[place.rank].sort()

    def _admit(self) -> list[int]:
        admitted: list[int] = []
        tokens = [0] * len(self._free)
        while self._waiting:
            rank = max(range(len(self._free)), key=lambda r: (len(self._free[r]), -r))
            length = self._lengths[self._waiting[0]]
            if not self._free[rank] or (tokens[rank] and tokens[rank] + length > self._prefill_tokens):
                break
            request = self._waiting.popleft()
            self._running[request] = Place(rank, self._free[rank].pop(0))
            tokens[rank] += length
            admitted.append(request)
        return admitted
