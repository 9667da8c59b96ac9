"""Files that are stored in parts: `consolidated.00.pth-split0 ... -split10` is one file cut by `split -b`.

Every file of a checkpoint is a `FileParts`, most of them with a single part, so that the rest of checkpoint/ need
not know. Parts are read where they lie; merge_parts.py joins them for good.
"""

import io
import os
import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from mixtralkit.errors import CheckpointError

PART_NAME = re.compile(r"(?P<whole>.+)-split(?P<number>\d{1,4})")  # more digits would be a date, not a count


@dataclass(frozen=True)
class FileParts:
    """One file called `name`, whose bytes are those of `paths`, one after the other."""

    name: str
    paths: tuple[Path, ...]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The size of each part, in bytes."""
        return tuple(path.stat().st_size for path in self.paths)

    @property
    def size(self) -> int:
        """The size of the whole, in bytes."""
        return sum(self.sizes)

    @property
    def path(self) -> Path:
        """Where the whole is, or would be after merging."""
        return self.paths[0].parent / self.name

    @property
    def is_split(self) -> bool:
        """Whether the bytes lie in `-split` parts, even in a single one."""
        return self.paths[0].name != self.name


def find_parts(folder: Path) -> tuple[FileParts, ...]:
    """The split files in `folder`, by name, their parts in numeric order (a lexical sort puts 10 before 2).

    A link to nothing, as an interrupted download may leave, is no part. Raises `CheckpointError` naming the part when a
    number between 0 and the highest is missing or there twice.
    """
    numbered: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.iterdir()):
        match = PART_NAME.fullmatch(path.name)
        if match and path.is_file():
            _add_part(numbered.setdefault(match["whole"], {}), int(match["number"]), path)
    return tuple(FileParts(whole, _in_order(whole, parts)) for whole, parts in sorted(numbered.items()))


def damaged(file: FileParts, what: str) -> CheckpointError:
    """The error for a file whose bytes cannot be what its writer wrote."""
    return CheckpointError(f"{file.path} {what}; download it again")


def shown(name: str) -> str:
    """`name`, which a file may have made up, without line breaks and escape codes."""
    return name if name.isprintable() else ascii(name)


def name_some(names: Iterable[str], limit: int = 10) -> str:
    """The first `limit` of `names` separated by commas, and how many more there are."""
    listed = list(names)
    more = len(listed) - limit
    return ", ".join(map(shown, listed[:limit])) + (f" and {more} more" if more > 0 else "")


def _add_part(parts: dict[int, Path], number: int, path: Path) -> None:
    if number in parts:
        raise CheckpointError(
            f"{path.parent} has part {number} twice, {parts[number].name} and {path.name}; remove the wrong one"
        )
    parts[number] = path


def _in_order(whole: str, parts: dict[int, Path]) -> tuple[Path, ...]:
    missing = [f"{whole}-split{number}" for number in range(max(parts)) if number not in parts]
    if missing:
        folder = next(iter(parts.values())).parent
        raise CheckpointError(f"{folder} lacks {name_some(missing)}; download what is missing")
    return tuple(parts[number] for number in sorted(parts))


def open_joined(parts: FileParts) -> io.BufferedReader:
    """The bytes of `parts` as one seekable binary file, to be closed; nothing is copied to disk."""
    return io.BufferedReader(JoinedFile(parts))


class JoinedFile(io.RawIOBase):
    """The unbuffered file under `open_joined`: reads across the borders of parts."""

    def __init__(self, parts: FileParts) -> None:
        super().__init__()
        self._parts = parts
        self._files = [path.open("rb", buffering=0) for path in parts.paths]
        self._ends = list(accumulate(parts.sizes))
        self._position = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to `offset` from the start, the current position or the end, as io does."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._ends[-1]}[whence]
        if base + offset < 0:
            raise ValueError(f"cannot seek to {base + offset}, before the start of {self._parts.path}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """The current position, in bytes from the start."""
        return self._position

    def readinto(self, buffer: memoryview | bytearray) -> int:  # type: ignore[override]
        """Fill `buffer` across part borders; less than its length only at the end of the last part."""
        filled = self.read_at(self._position, buffer)
        self._position += filled
        return filled

    def read_at(self, offset: int, buffer: memoryview | bytearray) -> int:
        """`readinto` from `offset` on, which leaves the position alone: several threads may do so at a time."""
        view, filled = memoryview(buffer).cast("B"), 0
        while filled < len(view) and offset + filled < self._ends[-1]:
            count = self._read_within_part(offset + filled, view[filled:])
            if count == 0:
                raise damaged(self._parts, "became shorter while it was read")
            filled += count
        return filled

    def close(self) -> None:
        """Close all parts."""
        for file in self._files:
            file.close()
        super().close()

    def _read_within_part(self, offset: int, view: memoryview) -> int:
        index = bisect_right(self._ends, offset)
        begin = self._ends[index - 1] if index else 0
        return os.preadv(self._files[index].fileno(), [view[: self._ends[index] - offset]], offset - begin)
