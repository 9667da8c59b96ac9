"""Memory that every rank of a host can write: a slab a rank, on its GPU, at an address of its own in each process.

Ranks on CPUs have theirs in shared memory, so that the same exchange can be tested without a GPU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.shared_segment import share_segment
from mixtralkit.errors import LaunchError
from mixtralkit.ops import library

Made = TypeVar("Made")


@dataclass(frozen=True)
class Slabs:
    """`addresses[r]` is where this process has rank r's slab; `memory` holds what must not be freed meanwhile."""

    addresses: tuple[int, ...]
    memory: torch.Tensor | None


def share_slabs(collectives: Collectives, nbytes: int) -> Slabs:
    """`nbytes` zeros for each rank; all ranks call it together.

    Raises `LaunchError` with the first reason, the same on all ranks, when one of them cannot.
    """
    if collectives.device.type == "cpu":
        memory = share_segment(collectives, collectives.size * nbytes)
        begin = memory.data_ptr()
        return Slabs(tuple(begin + rank * nbytes for rank in range(collectives.size)), memory)
    return Slabs(_on_devices(collectives, nbytes), None)


def _on_devices(collectives: Collectives, nbytes: int) -> tuple[int, ...]:
    ops = library.ops(library.CUDA)
    with torch.cuda.device(collectives.device):
        own = _together(collectives, lambda: int(ops.device_memory(nbytes)))
        handles = collectives.all_gather_json(_together(collectives, lambda: str(ops.device_memory_handle(own))))

        def open_all() -> tuple[int, ...]:
            ranks = range(collectives.size)
            return tuple(own if r == collectives.rank else int(ops.device_memory_open(handles[r])) for r in ranks)

        return _together(collectives, open_all)


def _together(collectives: Collectives, make: Callable[[], Made]) -> Made:
    """What `make` returns, or an error on all ranks when it fails on one."""
    made, problem = None, ""
    try:
        made = make()
    except RuntimeError as error:
        problem = " ".join(str(error).split())
    problems = collectives.all_gather_json(problem)
    found = [f"{text} (rank {rank})" for rank, text in enumerate(problems) if text]
    if found or made is None:
        raise LaunchError(f"the GPUs of this host cannot share memory: {found[0]}. Use --dispatch collective")
    return made
