"""Which process of this machine listens at a port, as far as /proc tells: it hides other users' processes."""

import os
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_LISTENING = "0A"  # the state of such a socket in /proc/net/tcp (the kernel's tcp_states.h)
_LOCAL_ADDRESS, _STATE, _INODE = 1, 3, 9  # columns there (man 5 proc)


def used_by(port: int) -> str:
    """Who listens at TCP port `port`, as a phrase such as " by nginx (pid 4711)"; empty where that is not known."""
    wanted = {f"socket:[{inode}]" for inode in _listening_at(port)}
    for process in _PROC.glob("[0-9]*"):
        if wanted & _open_files(process):
            return f" by {_name(process)} (pid {process.name})"
    return ""


def _listening_at(port: int) -> list[str]:
    inodes = []
    for table in ("tcp", "tcp6"):
        for line in _lines(_PROC / "net" / table)[1:]:
            fields = line.split()
            if fields[_STATE] == _LISTENING and int(fields[_LOCAL_ADDRESS].rpartition(":")[2], 16) == port:
                inodes.append(fields[_INODE])
    return inodes


def _open_files(process: Path) -> set[str]:
    files = set()
    with suppress(OSError):  # it is another user's, or has just ended
        for entry in (process / "fd").iterdir():
            with suppress(FileNotFoundError):  # it has just closed this one
                files.add(os.readlink(entry))
    return files


def _name(process: Path) -> str:
    return "".join(_lines(process / "comm")[:1]) or "a process"


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []
