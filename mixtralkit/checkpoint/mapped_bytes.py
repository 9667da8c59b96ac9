"""Bytes of a checkpoint's file as tensors: mapped where they lie, or copied."""

import mmap
import os
from bisect import bisect_right
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

import torch

from mixtralkit.checkpoint.split_files import FileParts, JoinedFile, damaged
from mixtralkit.errors import CheckpointError

# mmap.MAP_NORESERVE exists from Python 3.11 on. Without it Linux refuses to map a file larger than the memory.
_NO_RESERVE: int = getattr(mmap, "MAP_NORESERVE", 0x4000)


class MappedBytes:
    """Random access to a file in parts; each part is opened and mapped when it is first needed.

    The mapping is private: pages come from the page cache, shared by all ranks of a machine, until someone writes to
    them, and writes never reach the file. A part stays mapped for as long as a tensor made from it lives.
    """

    def __init__(self, parts: FileParts) -> None:
        self._parts = parts
        self._ends = list(accumulate(parts.sizes))
        self._maps: dict[int, mmap.mmap] = {}
        self._stream: JoinedFile | None = None

    def view(self, offset: int, nbytes: int, alignment: int = 1) -> torch.Tensor:
        """`nbytes` bytes from `offset` on, uint8 and without a copy.

        They are copied where they straddle two parts, or begin in their part at no multiple of `alignment`.
        """
        index = bisect_right(self._ends, offset)
        begin = self._ends[index - 1] if index else 0
        straddles = offset + nbytes > self._ends[min(index, len(self._ends) - 1)]
        if nbytes == 0 or straddles or (offset - begin) % alignment:
            return self.copy(offset, nbytes)
        return torch.frombuffer(self._map(index), dtype=torch.uint8, count=nbytes, offset=offset - begin)

    def copy(self, offset: int, nbytes: int) -> torch.Tensor:
        """`nbytes` bytes from `offset` on in memory of their own, uint8; leaves nothing mapped."""
        if nbytes == 0:
            return torch.empty(0, dtype=torch.uint8)
        buffer = bytearray(nbytes)
        if self._stream is None:
            self._stream = JoinedFile(self._parts)
        if self._stream.read_at(offset, buffer) != nbytes:
            raise damaged(self._parts, f"ends before byte {offset + nbytes:,}")
        return torch.frombuffer(buffer, dtype=torch.uint8)

    def _map(self, index: int) -> mmap.mmap:
        if index not in self._maps:
            self._maps[index] = _map_file(self._parts.paths[index])
        return self._maps[index]


def _map_file(path: Path) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDONLY)
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    try:
        mapped = mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE | _NO_RESERVE, prot=protection)
    except OSError as error:
        raise CheckpointError(f"cannot map {path} into memory: {error.strerror}") from error
    finally:
        os.close(descriptor)
    _ask_for_large_pages(mapped)
    return mapped


def _ask_for_large_pages(mapped: mmap.mmap) -> None:
    """Where the file system can, what is read from the disk from now on comes in pages of 2 MB.

    Weights in such pages are read faster, by up to a half (docs/log.md).
    """
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            mapped.madvise(mmap.MADV_HUGEPAGE)
