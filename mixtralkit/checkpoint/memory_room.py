"""Whether a device has room for what is about to be loaded, asked before anything is read."""

from pathlib import Path

import torch

from mixtralkit.errors import LaunchError
from mixtralkit.log import get_logger, notice

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


def check_room(*, private: int, mapped: int, device: torch.device) -> None:
    """Raise `LaunchError` with the numbers when `private` bytes do not fit into the free memory of `device`.

    `mapped` bytes stay in files, whose pages the system may drop: too many of them are slow, which is only logged.
    """
    free = free_memory(device)
    if free is None:
        return
    if private > free:
        raise LaunchError(
            f"this rank's weights need {private / 1e9:.1f} GB on {device}, which has {free / 1e9:.1f} GB free; use "
            "more ranks or nodes, a dtype of fewer bytes, or the checkpoint's own dtype, which a CPU maps"
        )
    if private + mapped > free:
        notice(
            get_logger(__name__),
            f"this rank's weights are {(private + mapped) / 1e9:.1f} GB but {free / 1e9:.1f} GB of memory are free: "
            "weights will be read from the disk over and over; use more nodes",
        )


def free_memory(device: torch.device) -> int | None:
    """The bytes that can be had on `device` now, or None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    known = [free for free in (_machine_free(), _cgroup_free()) if free is not None]
    return min(known, default=None)


def _machine_free() -> int | None:
    value = _table(_PROC / "meminfo").get("MemAvailable:")
    return None if value is None else value * 1024


def _cgroup_free() -> int | None:
    """What a container's limit leaves; files that are only cached do not count as used."""
    try:
        own = (_PROC / "self/cgroup").read_text(encoding="ascii").partition("0::/")[2].splitlines()
        folder = _CGROUPS / (own[0] if own else "")
        limit = int((folder / "memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return max(0, limit - _table(folder / "memory.stat").get("anon", 0))


def _table(path: Path) -> dict[str, int]:
    """Lines of "name number ..." as Linux writes them; empty where there is no such file."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    return {words[0]: int(words[1]) for line in lines if len(words := line.split()) >= 2 and words[1].isdigit()}
