"""How far a long pass over files has come."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class ByteProgress:
    """`nbytes` of `total_nbytes` are done; `name` is the file or tensor at hand."""

    name: str
    nbytes: int
    total_nbytes: int


class ByteCounter:
    """Adds up bytes and reports each step."""

    def __init__(self, total_nbytes: int, on_progress: Callable[[ByteProgress], None] | None) -> None:
        self._nbytes = 0
        self._total = total_nbytes
        self._on_progress = on_progress

    def add(self, name: str, nbytes: int) -> None:
        """`nbytes` more are done, of `name`."""
        self._nbytes += nbytes
        if self._on_progress is not None:
            self._on_progress(ByteProgress(name, self._nbytes, self._total))
