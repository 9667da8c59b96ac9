"""Joins `-split` parts into whole files for good. Reading a checkpoint never needs it; other programs may."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mixtralkit.checkpoint.byte_progress import ByteCounter, ByteProgress
from mixtralkit.checkpoint.full_disk import full_disk_named, sync
from mixtralkit.checkpoint.reader import read_tensor_infos
from mixtralkit.checkpoint.split_files import FileParts, find_parts, open_joined
from mixtralkit.errors import CheckpointError

CHUNK = 8 * 1024 * 1024
UNFINISHED = ".merging"
# md5 of the whole file -> what it is.
KNOWN_FILES = {"1faa9bc9b20fcfe81fcd4eb7166a79e6": "the Mixtral 8x7B that MixtralKit's instructions download"}


@dataclass(frozen=True)
class MergeResult:
    """A merged file. `resumed_nbytes` of it were there already; `known_as` says what its md5 stands for, if known."""

    path: Path
    nbytes: int
    resumed_nbytes: int
    md5: str
    known_as: str | None


def merge(
    folder: Path | str, *, output: Path | None = None, on_progress: Callable[[ByteProgress], None] | None = None
) -> tuple[MergeResult, ...]:
    """Join every split file in `folder`, into `output` or the same folder; the parts stay.

    A merged file appears only when it is complete and on the disk. An interrupted merge leaves NAME.merging, with
    which the next one goes on after comparing it with the parts. Raises `CheckpointError`, before anything is written,
    when there is nothing to merge, parts are missing or do not make a whole, or the disk is too small.
    """
    folder, target_folder = Path(folder), Path(output or folder)
    for place in (folder, target_folder):
        if not place.is_dir():
            raise CheckpointError(f"{place} is not a folder; give one that exists")
    files = find_parts(folder)
    if not files:
        raise CheckpointError(f"{folder} has no -split parts; there is nothing to merge")
    for file in files:
        read_tensor_infos(file)
    _check_room(files, target_folder)
    counter = ByteCounter(sum(file.size for file in files), on_progress)
    return tuple(_merge_file(file, target_folder / file.name, counter) for file in files)


def _check_room(files: tuple[FileParts, ...], folder: Path) -> None:
    needed = 0
    for file in files:
        target, unfinished = folder / file.name, folder / (file.name + UNFINISHED)
        if target.exists() and target.stat().st_size != file.size:
            raise CheckpointError(
                f"{target} has {target.stat().st_size:,} bytes, but its parts have {file.size:,}; delete or move it"
            )
        if not target.exists():
            needed += file.size - (min(unfinished.stat().st_size, file.size) if unfinished.exists() else 0)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CheckpointError(
            f"merging needs {needed:,} bytes in {folder}, which has {free:,} free; make room or give another --output. "
            "Split parts can be used as they are, without merging"
        )


def _merge_file(file: FileParts, target: Path, counter: ByteCounter) -> MergeResult:
    unfinished = target.with_name(target.name + UNFINISHED)
    if target.exists():
        with target.open("rb") as whole:
            resumed, md5 = _copy(file, whole, counter, may_change=False)
    else:
        full = f"all {file.size:,} bytes of {file.name} are written; make room and merge again, it goes on from there"
        with full_disk_named(full), _locked(unfinished) as whole:
            resumed, md5 = _copy(file, whole, counter, may_change=True)
            _publish(whole, target)
    return MergeResult(target, file.size, resumed, md5, KNOWN_FILES.get(md5))


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CheckpointError(f"{path} is being written by another merge; wait for it, or stop it") from error
        yield file


def _copy(file: FileParts, whole: BinaryIO, counter: ByteCounter, *, may_change: bool) -> tuple[int, str]:
    """Make `whole` equal to the parts; bytes that are there already are compared, not trusted.

    Returns how many bytes were right from the start, and the md5 of all.
    """
    md5 = hashlib.md5(usedforsecurity=False)
    right = 0
    with open_joined(file) as parts:
        while chunk := parts.read(CHUNK):
            if right == parts.tell() - len(chunk) and whole.read(len(chunk)) == chunk:
                right = parts.tell()
            elif may_change:
                whole.seek(parts.tell() - len(chunk))
                whole.write(chunk)
            else:
                raise CheckpointError(
                    f"{file.path} differs from its parts after byte {right:,}; delete it and merge again"
                )
            md5.update(chunk)
            counter.add(file.name, len(chunk))
    return right, md5.hexdigest()


def _publish(whole: BinaryIO, target: Path) -> None:
    whole.truncate(whole.tell())
    whole.flush()
    os.fsync(whole.fileno())
    os.replace(target.with_name(target.name + UNFINISHED), target)
    sync(target.parent)
