"""The plans whose results have not been taken yet, and what each relies on. Pure."""

from collections import deque
from collections.abc import Set
from dataclasses import dataclass
from itertools import chain

from mixtralkit.engine.request_progress import RequestProgress
from mixtralkit.engine.step_plan import Work


@dataclass(eq=False, slots=True)
class Entry:
    """The work of one request in one untaken plan, and what that plan relies on.

    `shared` are blocks that others wrote, `registered` those that others may rely on because this work fills them.
    A `void` entry is one whose result counts for nothing.
    """

    progress: RequestProgress
    rank: int
    work: Work
    samples: bool
    shared: tuple[int, ...] = ()
    registered: tuple[int, ...] = ()
    void: bool = False


class UntakenPlans:
    """The oldest first, each as its entries: rank after rank, in the order in which these feed."""

    def __init__(self) -> None:
        self._plans: deque[list[Entry]] = deque()

    def __len__(self) -> int:
        return len(self._plans)

    def add(self, entries: list[Entry]) -> None:
        """A plan is final."""
        self._plans.append(entries)
        for entry in entries:
            entry.progress.untaken += 1
            entry.progress.sampling += entry.samples
            entry.progress.guesses += entry.work.drafts

    def take(self) -> list[Entry]:
        """The entries of the oldest plan, which is taken."""
        for entry in self._plans[0]:
            entry.progress.untaken -= 1
            entry.progress.sampling -= entry.samples
            entry.progress.guesses -= entry.work.drafts
        return self._plans.popleft()

    def void(self, failed: Set[int]) -> list[Entry]:
        """Void what is spoiled because requests of these numbers failed in the oldest plan; returns it and theirs.

        Nobody knows what a failed request wrote. So whoever shares blocks that it was to fill, in this plan or the
        next, read nonsense, and wrote nonsense to others.
        """
        failures = {entry.progress for entry in self._plans[0] if entry.progress.number in failed and not entry.void}
        lost, blocks = set(failures), set[tuple[int, int]]()
        spoiled = []
        for entry in chain.from_iterable(self._plans):
            if entry.progress in lost or any((entry.rank, block) in blocks for block in entry.shared):
                lost.add(entry.progress)
                blocks.update((entry.rank, block) for block in entry.registered)
                entry.void = entry.progress not in failures
                spoiled.append(entry)
        return spoiled
