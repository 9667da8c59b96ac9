"""Memory that all ranks of a host see, gone when the last of them is, however it ended.

It has no name that could be left behind: rank 0 makes an anonymous file and the others open it through /proc. Where
that is forbidden it is a file of /dev/shm for a moment, which is removed as soon as all have it, or one cannot.
"""

import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.errors import LaunchError

SHM = "/dev/shm"


def share_segment(collectives: Collectives, nbytes: int) -> torch.Tensor:
    """`nbytes` zeros (uint8) in memory that all ranks of `collectives` share; all of them call it together.

    A page takes memory when it is first written. The tensor owns this process's view of the memory.

    Raises `LaunchError` with every reason, the same on all ranks, when the ranks have no way to share memory.
    """
    reasons = []
    for make in (_anonymous, _in_shm):
        segment, problem = _share(collectives, make, nbytes)
        if segment is not None:
            return torch.frombuffer(segment, dtype=torch.uint8)
        reasons.append(problem)
    raise LaunchError(
        f"the ranks of this host cannot share {nbytes / 1e6:.0f} MB of memory: {'; '.join(reasons)}. Give the "
        "container more shared memory (docker run --shm-size) or the ranks one user, or use --dispatch collective"
    )


@contextmanager
def _anonymous(nbytes: int) -> Iterator[str]:
    """The path of an anonymous file of `nbytes`, which lives as long as somebody has it open or mapped."""
    descriptor = os.memfd_create("mixtralkit")
    try:
        os.ftruncate(descriptor, nbytes)
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)


@contextmanager
def _in_shm(nbytes: int) -> Iterator[str]:
    """The path of a file of /dev/shm. Its memory is reserved: writing where none is left would kill the process."""
    descriptor, path = tempfile.mkstemp(prefix="mixtralkit-", dir=SHM)
    try:
        os.posix_fallocate(descriptor, 0, nbytes)
        yield path
    finally:
        os.close(descriptor)
        os.unlink(path)


def _share(
    collectives: Collectives, make: Callable[[int], AbstractContextManager[str]], nbytes: int
) -> tuple[mmap.mmap | None, str]:
    """Rank 0 makes the memory and all map it: the mapping, or None and why some rank could not."""
    path, segment, problem = "", None, ""
    with ExitStack() as made:
        if collectives.rank == 0:
            try:
                path = made.enter_context(make(nbytes))
            except OSError as error:
                problem = str(error)
        path = collectives.broadcast_json(path)
        if path:
            try:
                segment = _map(path, nbytes)
            except OSError as error:
                problem = str(error)
        problems = collectives.all_gather_json(problem)  # and by then all have mapped it
    found = [f"{text} (rank {rank})" for rank, text in enumerate(problems) if text]
    return None if found else segment, ", ".join(found[:1])


def _map(path: str, nbytes: int) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return mmap.mmap(descriptor, nbytes)
    finally:
        os.close(descriptor)
