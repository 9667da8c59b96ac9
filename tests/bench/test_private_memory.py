"""The peak counts memory of the process's own, and no pages of files; what an end of watching misses it does not."""

import mmap
import sys
import time
from pathlib import Path

import pytest

from mixtralkit.bench.private_memory import watched_memory
from mixtralkit.bench.process_age import process_age

SIZE = 64 << 20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


def test_memory_that_is_gone_again_counts() -> None:
    """64 MB within 16: what else this process takes meanwhile is far below."""
    with watched_memory() as peak:
        before = peak.nbytes
        block = bytearray(SIZE)
        time.sleep(0.1)
        del block
    assert before is not None
    assert peak.nbytes is not None
    assert SIZE - (16 << 20) < peak.nbytes - before < SIZE + (16 << 20)


def test_pages_of_a_mapped_file_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(SIZE))
    with watched_memory() as peak, path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        before = peak.nbytes
        assert sum(mapped[:: mmap.PAGESIZE]) == 0
    assert before is not None
    assert peak.nbytes is not None
    assert peak.nbytes - before < 16 << 20


def test_a_process_has_an_age_and_grows_older() -> None:
    first = process_age()
    time.sleep(0.05)
    second = process_age()
    assert first is not None
    assert second is not None
    assert 0 < first < first + 0.04 < second
