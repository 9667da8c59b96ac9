"""Bytes on their way to a device: the right ones, whatever the sizes and the times, and errors that arrive.

The device is memory of the host (host_uploads.py), the pipeline is the one that a GPU has.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mixtralkit.checkpoint import staging as staging_file
from mixtralkit.checkpoint.reader import Stretch
from mixtralkit.checkpoint.split_files import FileParts, JoinedFile
from mixtralkit.checkpoint.staging import Staging
from mixtralkit.errors import CheckpointError
from tests.checkpoint.host_uploads import AtOnce, Late

BUFFER = 64
# Around a buffer's size and its multiples, nothing, one byte, and much.
SIZES = (0, 1, BUFFER - 1, BUFFER, BUFFER + 1, 2 * BUFFER, 2 * BUFFER + 1, 10 * BUFFER + 7, 0, 3)


def written(folder: Path, nbytes: int, parts: int) -> tuple[FileParts, bytes]:
    content = os.urandom(nbytes)
    cuts = [nbytes * part // parts for part in range(parts + 1)]
    paths = tuple(folder / f"weights-split{part}" for part in range(parts))
    for path, begin, end in zip(paths, cuts, cuts[1:], strict=False):
        path.write_bytes(content[begin:end])
    return FileParts("weights", paths), content


def one_after_the_other(file: FileParts, sizes: tuple[int, ...]) -> list[Stretch]:
    return [Stretch(file, sum(sizes[:index]), size) for index, size in enumerate(sizes)]


@pytest.mark.parametrize("uploads", [AtOnce, Late])
@pytest.mark.parametrize("parts", [1, 7])
@pytest.mark.parametrize("buffers", [1, 2, 4])
def test_every_byte_arrives_in_its_place(
    tmp_path: Path, uploads: Callable[[], AtOnce], parts: int, buffers: int
) -> None:
    """Pieces of stretches that straddle buffers and the file's parts, compared with the file."""
    file, content = written(tmp_path, sum(SIZES), parts)
    stretches = one_after_the_other(file, SIZES)[::-1]  # the order is the reader's own
    with Staging(uploads(), stretches, buffers=buffers, buffer_bytes=BUFFER) as staging:
        found = [staging.take() for _ in stretches]
    expected = [content[stretch.offset : stretch.offset + stretch.nbytes] for stretch in stretches]
    assert [bytes(tensor.tolist()) for tensor in found] == expected


def test_several_files_are_read_in_turn(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, first = written(tmp_path, 200, 1)
    other, second = written(tmp_path / "other", 200, 3)
    stretches = [Stretch(one, 0, 100), Stretch(other, 50, 130), Stretch(one, 100, 100)]
    with Staging(Late(), stretches, buffers=2, buffer_bytes=BUFFER) as staging:
        found = [bytes(staging.take().tolist()) for _ in stretches]
    assert found == [first[:100], second[50:180], first[100:]]


def test_buffers_are_no_larger_and_no_more_than_there_is_to_read(tmp_path: Path) -> None:
    file, _ = written(tmp_path, 1000, 1)
    uploads = AtOnce()
    with Staging(uploads, [Stretch(file, 0, 10), Stretch(file, 10, 30)]) as staging:
        staging.take()
    assert [len(buffer) for buffer in uploads.buffers] == [30, 30]
    assert uploads.closed == 1
    with Staging(uploads, []):
        pass
    assert uploads.closed == 2


def test_files_are_read_while_copies_are_under_way(tmp_path: Path) -> None:
    """The copy of the first buffer ends only when the second has been read: one after the other would never end."""
    file, content = written(tmp_path, 2 * BUFFER, 1)
    read = threading.Semaphore(0)
    read_at = JoinedFile.read_at

    def counted(self: JoinedFile, offset: int, buffer: memoryview | bytearray) -> int:
        count = read_at(self, offset, buffer)
        read.release()
        return count

    def both_read() -> float:
        assert read.acquire(timeout=30)
        return 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JoinedFile, "read_at", counted)
        with Staging(Late(both_read), [Stretch(file, 0, 2 * BUFFER)], buffers=2, buffer_bytes=BUFFER) as staging:
            assert bytes(staging.take().tolist()) == content


def test_errors_of_reading_arrive_with_their_own_type_and_words(tmp_path: Path) -> None:
    """Where the file was truncated after it was looked at; what came before is still right."""
    file, content = written(tmp_path, 1000, 1)
    assert file.size == 1000
    os.truncate(file.paths[0], 700)
    with Staging(Late(), one_after_the_other(file, (600, 400)), buffers=2, buffer_bytes=BUFFER) as staging:
        assert bytes(staging.take().tolist()) == content[:600]
        with pytest.raises(CheckpointError, match="weights became shorter while it was read; download it again"):
            staging.take()
    assert_no_readers()


def disk_fails() -> None:
    raise OSError(5, "Input/output error")


def user_gives_up() -> None:
    """Ctrl-C, which the thread that waits is told of."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)


@pytest.mark.parametrize(("happens", "error"), [(disk_fails, OSError), (user_gives_up, KeyboardInterrupt)])
def test_no_error_leaves_anything_behind(
    tmp_path: Path, happens: Callable[[], None], error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of several pieces."""
    file, _ = written(tmp_path, 1000, 1)
    read_at, uploads = JoinedFile.read_at, Late()

    def read_or_not(self: JoinedFile, offset: int, buffer: memoryview | bytearray) -> int:
        if offset == 5 * BUFFER:
            happens()
        return read_at(self, offset, buffer)

    monkeypatch.setattr(JoinedFile, "read_at", read_or_not)
    with pytest.raises(error), Staging(uploads, [Stretch(file, 0, 1000)], buffers=2, buffer_bytes=BUFFER) as staging:
        staging.take()
    assert uploads.closed == 1
    assert_no_readers()


def test_leaving_early_waits_for_a_piece_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing more is read once somebody has left, however much there is."""
    file, _ = written(tmp_path, 1000, 1)
    begun: list[int] = []

    def slow(self: JoinedFile, offset: int, buffer: memoryview | bytearray) -> int:
        begun.append(offset)
        time.sleep(0.05)
        return len(buffer)

    monkeypatch.setattr(JoinedFile, "read_at", slow)
    with Staging(AtOnce(), [Stretch(file, 0, 1000)], buffers=2, buffer_bytes=10):
        pass
    assert set(begun) <= {0, 10}
    assert_no_readers()


def test_a_file_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    uploads = AtOnce()
    with pytest.raises(FileNotFoundError):
        Staging(uploads, [Stretch(FileParts("a", (tmp_path / "a",)), 0, 10)])
    assert uploads.closed == 1


def assert_no_readers() -> None:
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mixtralkit-read")]


def test_the_memory_for_buffers_is_bounded() -> None:
    """Of the host, page-locked, a rank: what other processes cannot have."""
    assert staging_file.BUFFERS * staging_file.BUFFER_BYTES <= 256 << 20
