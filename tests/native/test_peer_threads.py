"""The headers of csrc/peer under ThreadSanitizer, with threads as ranks: peer_threads.cpp, which checks every row."""

import shutil
from pathlib import Path

import pytest

from tests.native.sanitizer import CSRC, HERE, compile_program, need_sanitizer, run_program


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place for programs, where ThreadSanitizer can be used."""
    folder = tmp_path_factory.mktemp("threads")
    need_sanitizer(folder)
    return folder


def test_no_race_and_no_row_lost(folder: Path) -> None:
    """Sleeping at once and after a spin; and in slices so short that every wait is a pause, in all stages."""
    program = folder / "peer_threads"
    compiled = compile_program(HERE / "peer_threads.cpp", CSRC, program)
    assert compiled.returncode == 0, compiled.stderr
    long, short = str(10**9), "1"
    for arguments in [("2", "100", "0", long), ("3", "100", "20000", long), ("3", "15", "0", short)]:
        ended = run_program(program, *arguments)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout == f"{arguments[1]} exchanges between {arguments[0]} ranks\n"


def test_a_weaker_order_would_be_found(folder: Path) -> None:
    """With relaxed accesses to the words that say what may be read, the rows behind them are raced for."""
    csrc = folder / "csrc"
    shutil.copytree(CSRC / "peer", csrc / "peer")
    channel = csrc / "peer" / "channel.h"
    strong = channel.read_text()
    assert strong.count("memory_order_seq_cst") == 4
    channel.write_text(strong.replace("memory_order_seq_cst", "memory_order_relaxed"))
    compiled = compile_program(HERE / "peer_threads.cpp", csrc, folder / "relaxed")
    assert compiled.returncode == 0, compiled.stderr
    ended = run_program(folder / "relaxed", "2", "50", "1000000", str(10**9))
    assert ended.returncode
    assert "WARNING: ThreadSanitizer: data race" in ended.stderr
