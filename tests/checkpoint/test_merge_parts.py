"""Merging against the file that was cut: killed midway, taken up again, without room, twice at once."""

import fcntl
import hashlib
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from mixtralkit.checkpoint import merge_parts
from mixtralkit.checkpoint.byte_progress import ByteProgress
from mixtralkit.checkpoint.merge_parts import merge
from mixtralkit.errors import CheckpointError
from tests.checkpoint.make_checkpoints import Kind, make_checkpoint, split_file

NAME = "consolidated.00.pth"


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A checkpoint in 11 parts in tmp_path, and the bytes it was cut from; merged in small steps."""
    monkeypatch.setattr(merge_parts, "CHUNK", 10_000)
    make_checkpoint(tmp_path, Kind.MISTRAL_PTH)
    content = (tmp_path / NAME).read_bytes()
    split_file(tmp_path / NAME, 11)
    return content


def test_merged_file_is_the_one_that_was_cut(tmp_path: Path, whole: bytes) -> None:
    seen: list[ByteProgress] = []
    (result,) = merge(tmp_path, on_progress=seen.append)
    assert result.path == tmp_path / NAME
    assert result.path.read_bytes() == whole
    assert result.md5 == hashlib.md5(whole).hexdigest()
    assert (result.nbytes, result.resumed_nbytes) == (len(whole), 0)
    assert seen[-1] == ByteProgress(NAME, len(whole), len(whole))
    assert len(list(tmp_path.glob(f"{NAME}-split*"))) == 11
    assert not list(tmp_path.glob("*.merging"))


class _Killed(BaseException):
    """Stands for a signal: nothing catches it."""


def test_an_interrupted_merge_goes_on(tmp_path: Path, whole: bytes) -> None:
    def stop(progress: ByteProgress) -> None:
        if progress.nbytes >= 30_000:
            raise _Killed

    with pytest.raises(_Killed):
        merge(tmp_path, on_progress=stop)
    assert not (tmp_path / NAME).exists()
    (result,) = merge(tmp_path)
    assert result.resumed_nbytes == 30_000
    assert (tmp_path / NAME).read_bytes() == whole


def test_what_an_interrupted_merge_left_is_not_trusted(tmp_path: Path, whole: bytes) -> None:
    """After a power cut the file may have its size but not its bytes; or it may be too long."""
    (tmp_path / f"{NAME}.merging").write_bytes(whole[:10_000] + bytes(len(whole)))
    (result,) = merge(tmp_path)
    assert result.resumed_nbytes == 10_000
    assert (tmp_path / NAME).read_bytes() == whole


def test_merging_again_only_compares(tmp_path: Path, whole: bytes) -> None:
    merge(tmp_path)
    before = (tmp_path / NAME).stat().st_mtime_ns
    (result,) = merge(tmp_path)
    assert result.resumed_nbytes == len(whole)
    assert (tmp_path / NAME).stat().st_mtime_ns == before
    with (tmp_path / NAME).open("r+b") as file:
        file.seek(25_000)
        file.write(b"x" * 10)
    with pytest.raises(CheckpointError, match="differs from its parts after byte 20,000"):
        merge(tmp_path)


def test_into_another_folder(tmp_path: Path, whole: bytes) -> None:
    (tmp_path / "out").mkdir()
    (result,) = merge(tmp_path, output=tmp_path / "out")
    assert result.path.read_bytes() == whole
    assert not (tmp_path / NAME).exists()
    with pytest.raises(CheckpointError, match="nowhere is not a folder"):
        merge(tmp_path, output=tmp_path / "nowhere")


def test_too_small_a_disk_is_said_with_numbers_before_writing(
    tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 1000))
    with pytest.raises(CheckpointError, match=rf"needs {len(whole):,} bytes in .*, which has 1,000 free; make room"):
        merge(tmp_path)
    assert not list(tmp_path.glob("*.merging"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a disk that is always full")
@pytest.mark.parametrize("chunk", [100, 10_000])
def test_a_disk_that_fills_up(tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Small pieces lie in a buffer of Python's, so that closing fails once more."""
    monkeypatch.setattr(merge_parts, "CHUNK", chunk)
    (tmp_path / f"{NAME}.merging").symlink_to("/dev/full")
    with pytest.raises(
        CheckpointError, match=r"the disk is full before all [\d,]+ bytes of .* make room and merge again"
    ):
        merge(tmp_path)


def test_two_merges_at_once(tmp_path: Path, whole: bytes) -> None:
    with (tmp_path / f"{NAME}.merging").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CheckpointError, match="is being written by another merge"):
            merge(tmp_path)


def test_parts_that_do_not_make_a_whole_are_not_merged(tmp_path: Path, whole: bytes) -> None:
    (tmp_path / f"{NAME}-split10").unlink()
    with pytest.raises(CheckpointError, match="split9 is truncated, or parts after it are missing"):
        merge(tmp_path)
    assert not (tmp_path / NAME).exists()


def test_nothing_to_merge(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing to merge"):
        merge(tmp_path)
    with pytest.raises(CheckpointError, match="is not a folder"):
        merge(tmp_path / "absent")
