"""Which device and how many threads a rank uses."""

import os

import torch

from mixtralkit.env import requested_threads
from mixtralkit.errors import LaunchError, UsageError

DEVICES = ("auto", "cpu", "cuda")


def device_kind(wanted: str) -> str:
    """The kind of device, "cuda" or "cpu", for `wanted`, one of `DEVICES`; auto is cuda where torch has it.

    Raises:
        UsageError: another word.
        LaunchError: cuda is asked for and this torch or this machine has none.

    """
    if wanted not in DEVICES:
        raise UsageError(f"the device {wanted!r} is unknown; there are {', '.join(DEVICES)}")
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        built = "" if torch.version.cuda else ", as this torch is built without CUDA"
        raise LaunchError(f"the device cuda was asked for and torch finds no GPU{built}; use --device cpu")
    return "cuda" if available and wanted != "cpu" else "cpu"


def device_of(kind: str, local_rank: int) -> torch.device:
    """The device of the rank that is number `local_rank` on its node; makes a GPU the current one.

    Raises `LaunchError` when the node has fewer GPUs than ranks.
    """
    if kind == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise LaunchError(
            f"there is no GPU for local rank {local_rank}: torch sees {count} here (CUDA_VISIBLE_DEVICES counts); "
            f"start at most {count} ranks on this node (torchrun --nproc_per_node), or use --device cpu"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def set_threads(local_ranks: int) -> int:
    """Share this host's cores among its `local_ranks`, unless the user set OMP_NUM_THREADS; returns the number."""
    threads = requested_threads() or max(1, len(own_cores()) // local_ranks)
    torch.set_num_threads(threads)
    return threads


def own_cores() -> set[int]:
    """The cores that this process may use, or all where the system does not tell."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
