"""The notice board of a group: what the ranks tell each other outside of the collectives, through the store.

Every rank keeps its beat there (is it alive, where is it) and pins up the failure that ends the group. Nothing
here waits for another rank. A call raises `BoardLost` when the store is out of reach; where the network is cut it
may hang, so only the heartbeat's own thread may call while the group is healthy.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch.distributed as dist
from torch.distributed.distributed_c10d import Store

from mixtralkit.dist.failure import Failure, failure_from_json
from mixtralkit.errors import LaunchError


class BoardLost(LaunchError):
    """The process that serves the store is gone or out of reach."""


@dataclass(frozen=True)
class Beat:
    """A sign of life: its number, how many collectives the rank has begun, and where it is."""

    count: int = 0
    begun: int = 0
    where: str = ""


class Board:
    """The keys of one group of `world_size` ranks in `store`."""

    def __init__(self, store: Store, world_size: int) -> None:
        self._store = store
        self._beat_keys = [f"beat/{rank}" for rank in range(world_size)]

    def open(self, rank: int) -> None:
        """Make the keys that `read` needs; every rank does so before any of them reads."""
        self.beat(rank, Beat())
        with _reachable():
            self._store.add("failures", 0)

    def beat(self, rank: int, beat: Beat) -> None:
        """Show that `rank` is alive."""
        with _reachable():
            self._store.set(self._beat_keys[rank], f"{beat.count} {beat.begun} {beat.where}")

    def read(self) -> tuple[list[Beat], bool]:
        """Every rank's last beat, and whether a failure is pinned up."""
        with _reachable():
            *beats, failures = self._store.multi_get([*self._beat_keys, "failures"])
        return [_beat(content) for content in beats], int(failures) > 0

    def publish(self, failure: Failure) -> Failure:
        """Pin up `failure`, unless one is there already; returns the one that holds for all ranks."""
        with _reachable():
            content = self._store.compare_set("failure", "", failure.to_json())
            self._store.add("failures", 1)
        return failure_from_json(content)

    def failure(self) -> Failure | None:
        """The failure that is pinned up."""
        with _reachable():
            return failure_from_json(self._store.get("failure")) if self._store.check(["failure"]) else None

    def count(self, key: str, more: int = 0) -> int:
        """Add `more` to the counter `key`; returns its value."""
        with _reachable():
            return self._store.add(key, more)


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except dist.DistError as error:
        raise BoardLost(str(error).partition("\n")[0]) from error


def _beat(content: bytes) -> Beat:
    count, begun, where = content.decode().split(" ", 2)
    return Beat(int(count), int(begun), where)
