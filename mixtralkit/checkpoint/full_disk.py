"""What writing large files asks of the disk."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mixtralkit.errors import CheckpointError


@contextmanager
def full_disk_named(before: str) -> Iterator[None]:
    """Make a full disk a `CheckpointError`; it may show when writing, syncing or closing.

    `before` ends the sentence "the disk is full before ...".
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise CheckpointError(f"the disk is full before {before}") from error


def sync(path: Path) -> None:
    """Wait until the bytes of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
