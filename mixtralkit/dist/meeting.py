"""Where ranks, or the launchers of nodes, find each other: a store at the master's address, and a roll call."""

import time
from collections.abc import Callable, Mapping
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


def roll_call(
    store: Store,
    *,
    noun: str,
    index: int,
    count: int,
    value: str,
    timeout: float,
    advice: str,
    check: Callable[[Mapping[int, str]], None],
) -> list[str]:
    """Give `value` for number `index` of `count` participants (`noun`: "rank" or "node"); returns everybody's.

    `check` looks at what has come, by number: at all of it, and before that at a part when some stay away, as
    those who differ may be the reason. Says who is missing after `NOTICE_AFTER` seconds.

    Raises:
        LaunchError: somebody is still missing after `timeout` seconds; the message ends with `advice`.

    """
    store.set(f"{noun}/{index}", value)
    start, noticed, present = time.monotonic(), False, dict[int, str]()
    while missing := _collect(store, noun, count, present):
        waited = time.monotonic() - start
        if waited >= min(timeout, NOTICE_AFTER) and not noticed:
            noticed = True
            check(present)
            _logger.warning(f"waiting for {_names(noun, missing)} of {count}, up to {timeout:.0f} s: {advice}")
        if waited >= timeout:
            raise LaunchError(f"{_names(noun, missing)} of {count} did not come within {timeout:.0f} s: {advice}")
        time.sleep(_POLL_EVERY)
    _part(store, noun, count, last=index == 0)
    check(present)
    return [present[number] for number in range(count)]


def _collect(store: Store, noun: str, count: int, present: dict[int, str]) -> list[int]:
    """Add the newcomers to `present`; returns the numbers of those still missing."""
    for number in range(count):
        if number not in present and store.check([f"{noun}/{number}"]):
            present[number] = store.get(f"{noun}/{number}").decode()
    return [number for number in range(count) if number not in present]


def _part(store: Store, noun: str, count: int, *, last: bool) -> None:
    """Tell that this participant has read everything; the last to go, whose store it may be, waits for the others."""
    deadline = time.monotonic() + _FAREWELL
    done = store.add(f"{noun}/done", 1)
    while last and done < count and time.monotonic() < deadline:
        time.sleep(_POLL_EVERY)
        done = store.add(f"{noun}/done", 0)


def _names(noun: str, numbers: list[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:8]) + (", ..." if len(numbers) > 8 else "")
    return f"{noun}{'s' if len(numbers) > 1 else ''} {shown}"
