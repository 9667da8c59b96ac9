"""The steps of csrc/split under ThreadSanitizer, with threads as ranks: split_threads.cpp, which checks every row."""

import shutil
from pathlib import Path

import pytest

from tests.native.sanitizer import CSRC, HERE, compile_program, need_sanitizer, run_program

# What can be left out, and of which file: each lets somebody read or write too early.
ROWS_READ = ("dispatch_send.h", "if (!at.await(team, kRowsRead, number - kBuffers)) return;", "")
RESULTS_READ = ("combine_send.h", "if (!at.await(team, kResultsRead, number - kBuffers)) return;", "")
ROWS_SENT = ("dispatch_receive.h", "if (!at.await(team, kRowsSent, *ticket)) return false;", "")
RESULTS_SENT = ("combine_receive.h", " && at.await(team, kResultsSent, *ticket)", "")
ONE_REGION = ("slab.h", "number % kBuffers", "0")
ACQUIRE = ("host_team.h", "memory_order_acquire", "memory_order_relaxed")
RELEASE = ("host_team.h", "memory_order_release", "memory_order_relaxed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place for programs, where ThreadSanitizer can be used."""
    folder = tmp_path_factory.mktemp("steps")
    need_sanitizer(folder)
    return folder


def test_no_race_and_no_row_lost(folder: Path) -> None:
    program = folder / "split_threads"
    compiled = compile_program(HERE / "split_threads.cpp", CSRC, program)
    assert compiled.returncode == 0, compiled.stderr
    for ranks, rounds in (("1", "20"), ("2", "100"), ("3", "50")):
        ended = run_program(program, ranks, rounds)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout == "well\n"


@pytest.mark.parametrize(
    "fault",
    [ROWS_READ, RESULTS_READ, ROWS_SENT, RESULTS_SENT, ONE_REGION, ACQUIRE, RELEASE],
    ids=["rows read", "results read", "rows sent", "results sent", "one region", "acquire", "release"],
)
@pytest.mark.usefixtures("folder")
def test_what_is_left_out_would_be_found(fault: tuple[str, str, str], tmp_path: Path) -> None:
    """Without one of the waits, one of the two regions, or an order of memory, there is a race or a wrong row."""
    name, words, instead = fault
    shutil.copytree(CSRC / "split", tmp_path / "split")
    header = tmp_path / "split" / name
    text = header.read_text()
    assert words in text
    header.write_text(text.replace(words, instead))
    compiled = compile_program(HERE / "split_threads.cpp", tmp_path, tmp_path / "broken")
    assert compiled.returncode == 0, compiled.stderr
    ended = run_program(tmp_path / "broken", "2", "100")
    assert ended.returncode
    assert "WARNING: ThreadSanitizer: data race" in ended.stderr or "not so: " in ended.stderr
