"""The way of a checkpoint's bytes to a GPU: files -> page-locked buffers -> device, all at the same time.

Each buffer has a thread. It waits until the device has taken what the buffer held, and reads the next piece into it,
while other buffers are read or travel. Files are read with preadv and not through mapped memory: a call fills megabytes
without page faults (docs/log.md has both), leaves nothing mapped, and an error is an exception instead of a SIGBUS.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import torch

from mixtralkit.checkpoint.reader import Stretch
from mixtralkit.checkpoint.split_files import FileParts, JoinedFile, damaged
from mixtralkit.checkpoint.uploads import Underway, Uploads

BUFFERS = 4
BUFFER_BYTES = 32 << 20


@dataclass(frozen=True)
class _Reading:
    """A piece on its way into a buffer."""

    data: torch.Tensor
    future: "Future[None]"


class Staging:
    """Brings `stretches` to the device one after the other, reading ahead of what is taken; to be closed.

    Memory of the host: `buffers` times `buffer_bytes`, or less where there is less to read.
    """

    def __init__(
        self,
        uploads: Uploads,
        stretches: Sequence[Stretch],
        *,
        buffers: int = BUFFERS,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        self._uploads = uploads
        self._files: dict[FileParts, JoinedFile] = {}
        self._buffer_bytes = min(buffer_bytes, max((stretch.nbytes for stretch in stretches), default=0))
        self._left = iter(stretches)
        self._pieces = (piece for stretch in stretches for piece in self._cut(stretch))
        self._readings: deque[_Reading] = deque()
        self._pool = ThreadPoolExecutor(buffers, thread_name_prefix="mixtralkit-read")
        try:
            self._open(stretches)
            for _ in range(buffers):
                self._begin_reading(None, None)
        except BaseException:
            self.close()
            raise

    def take(self) -> torch.Tensor:
        """The bytes of the next stretch, uint8, on the device; raises what went wrong in reading them."""
        stretch = next(self._left)
        target = self._uploads.empty(stretch.nbytes)
        for piece in self._cut(stretch):
            begin = piece.offset - stretch.offset
            reading = self._readings.popleft()
            reading.future.result()
            done = self._uploads.copy(target[begin : begin + piece.nbytes], reading.data[: piece.nbytes])
            self._begin_reading(reading.data, done)
        self._uploads.hand_over(target)
        return target

    def close(self) -> None:
        """Stop reading and give everything back. What is being read is finished first: a piece a thread."""
        self._pool.shutdown(cancel_futures=True)
        self._readings.clear()
        for file in self._files.values():
            file.close()
        self._uploads.close()

    def __enter__(self) -> "Staging":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, stretches: Sequence[Stretch]) -> None:
        for stretch in stretches:
            if stretch.file not in self._files:
                self._files[stretch.file] = JoinedFile(stretch.file)

    def _cut(self, stretch: Stretch) -> Iterator[Stretch]:
        """The pieces of a stretch that fit into a buffer; none where it is empty."""
        end = stretch.offset + stretch.nbytes
        for begin in range(stretch.offset, end, max(1, self._buffer_bytes)):
            yield Stretch(stretch.file, begin, min(self._buffer_bytes, end - begin))

    def _begin_reading(self, data: torch.Tensor | None, done: Underway | None) -> None:
        """Have the next piece read into `data`, None for a new buffer, as soon as the copy from it is `done`."""
        piece = next(self._pieces, None)
        if piece is None:
            return
        if data is None:
            data = self._uploads.buffer(self._buffer_bytes)
        self._readings.append(_Reading(data, self._pool.submit(self._read, piece, data, done)))

    def _read(self, piece: Stretch, data: torch.Tensor, done: Underway | None) -> None:
        if done is not None:
            done.synchronize()
        view = data.numpy().data[: piece.nbytes]
        if self._files[piece.file].read_at(piece.offset, view) != piece.nbytes:
            raise damaged(piece.file, f"ends before byte {piece.offset + piece.nbytes:,}")
