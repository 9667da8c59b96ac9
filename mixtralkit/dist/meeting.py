"""Where ranks, or the launchers of nodes, find each other: a store at the master's address, and a roll call."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import Store

from mixtralkit.dist.address import NOTICE_AFTER, Master, check_port_free, check_resolves, wait_reachable
from mixtralkit.errors import LaunchError
from mixtralkit.log import get_logger

_POLL_EVERY = 0.05
_FAREWELL = 1.0  # seconds that the one who serves the store waits for the others to have read it

_logger = get_logger(__name__)


def open_store(master: Master, *, serve: bool, timeout: float) -> TCPStore:
    """The store at the master's address: served by this process, or reached within `timeout` seconds.

    A later store of this process at the same port shares the server (torch's `multi_tenant`).

    Raises:
        LaunchError: the host name is unknown, the port is in use, or the master does not answer.

    """
    check_resolves(master)
    if serve:
        check_port_free(master)
    else:
        wait_reachable(master, timeout)
    try:
        return TCPStore(
            master.host,
            master.port,
            is_master=serve,
            timeout=timedelta(seconds=timeout),
            wait_for_workers=False,
            multi_tenant=True,
        )
    except dist.DistError as error:
        first_line = str(error).partition("\n")[0]
        raise LaunchError(
            f"no store at {master}: {first_line}; check {master.host_setting}, {master.port_setting}"
        ) from error


@dataclass(frozen=True)
class RollCall:
    """Number `index` of `count` participants (`noun`: "rank" or "node") gives `card` and wants everybody's.

    `check` looks at the cards that have come, by number: at all of them, and before that at a part when some stay
    away, as those who differ may be the reason; it raises `LaunchError`. `advice` says what to do about missing ones.
    """

    noun: str
    index: int
    count: int
    card: str
    check: Callable[[Mapping[int, str]], None]
    advice: str

    def hold(self, store: Store, timeout: float) -> list[str]:
        """Everybody's cards, in order; says who is missing after `NOTICE_AFTER` seconds.

        Raises:
            LaunchError: the same on all: `check` did somewhere, another has this number, somebody is still missing
                after `timeout` seconds, or the store is gone.

        """
        with self.telling(store):
            return self._hold(store, timeout)

    @contextmanager
    def telling(self, store: Store) -> Iterator[None]:
        """A block whose `LaunchError` here is raised by `hold` on all the others."""
        try:
            try:
                yield
            except LaunchError as error:
                store.set(f"{self.noun}/problem", str(error))
                self._part(store)
                raise
        except dist.DistError as error:
            raise LaunchError(f"{self.noun} 0, where all meet, ended before all had come: see what it said") from error

    def _hold(self, store: Store, timeout: float) -> list[str]:
        self._give(store)
        start, noticed, present = time.monotonic(), False, dict[int, str]()
        while missing := self._collect(store, present):
            waited = time.monotonic() - start
            who = f"{self.noun}{'s' if len(missing) > 1 else ''} {_listed(missing)} of {self.count}"
            if waited >= timeout:
                self.check(present)
                raise LaunchError(f"{who} did not come within {timeout:.0f} s: {self.advice}")
            if waited >= NOTICE_AFTER and not noticed:
                noticed = True
                self.check(present)
                if self.index == min(present):
                    _logger.warning(f"waiting for {who}, up to {timeout:.0f} s: {self.advice}")
            time.sleep(_POLL_EVERY)
        self.check(present)
        self._part(store)
        return [present[number] for number in range(self.count)]

    def _give(self, store: Store) -> None:
        held = store.compare_set(f"{self.noun}/{self.index}", "", self.card).decode()
        if held != self.card:
            raise LaunchError(f"two processes are {self.noun} {self.index}: {held} and {self.card}")

    def _collect(self, store: Store, present: dict[int, str]) -> list[int]:
        """Add the newcomers to `present`; returns the numbers of those still missing."""
        if store.check([f"{self.noun}/problem"]):
            raise LaunchError(store.get(f"{self.noun}/problem").decode())
        for number in range(self.count):
            if number not in present and store.check([f"{self.noun}/{number}"]):
                present[number] = store.get(f"{self.noun}/{number}").decode()
        return [number for number in range(self.count) if number not in present]

    def _part(self, store: Store) -> None:
        """Tell that this participant has read everything; number 0, who may serve the store, waits for the others."""
        deadline = time.monotonic() + _FAREWELL
        done = store.add(f"{self.noun}/done", 1)
        while self.index == 0 and done < self.count and time.monotonic() < deadline:
            time.sleep(_POLL_EVERY)
            done = store.add(f"{self.noun}/done", 0)


def _listed(numbers: list[int]) -> str:
    return ", ".join(str(number) for number in numbers[:8]) + (", ..." if len(numbers) > 8 else "")
