"""One rank as the others know it: its number, its host and its process."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from mixtralkit.dist.process_state import start_time


@dataclass(frozen=True)
class Member:
    """A rank of the group. `host` is for people, `host_id` for comparing; `started` guards against a reused pid."""

    rank: int
    host: str
    host_id: str
    pid: int
    started: int

    def __str__(self) -> str:
        return f"rank {self.rank} on {self.host} (pid {self.pid})"


def this_member(rank: int) -> Member:
    """The process itself, as rank `rank`."""
    pid = os.getpid()
    return Member(rank, socket.gethostname(), host_id(), pid, start_time(pid))


def host_id() -> str:
    """What two processes have in common exactly when they share a machine, its network and its process numbers.

    Two containers on one machine are two hosts: they reach each other over a network, like nodes.
    """
    proc = Path("/proc")
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
        spaces = [str((proc / "self/ns" / kind).stat().st_ino) for kind in ("net", "pid")]
    except OSError:
        return socket.gethostname()
    return "/".join([socket.gethostname(), boot, *spaces])
