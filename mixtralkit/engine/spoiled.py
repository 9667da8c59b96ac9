"""What a request that failed takes with it. Pure."""

from collections.abc import Iterable

from mixtralkit.engine.progress import Entry, Progress


def spoiled(entries: Iterable[Entry], failed: set[Progress]) -> list[Entry]:
    """The entries of untaken plans, in their order, that count for nothing because requests `failed` in the oldest.

    Nobody knows what a failed request wrote. So whoever shares blocks that it was to fill, in this plan or the next,
    read nonsense, and wrote nonsense to others.
    """
    lost = set(failed)
    blocks: set[tuple[int, int]] = set()
    void = []
    for entry in entries:
        if entry.progress in lost or any((entry.rank, block) in blocks for block in entry.shared):
            lost.add(entry.progress)
            blocks.update((entry.rank, block) for block in entry.registered)
            void.append(entry)
    return void
