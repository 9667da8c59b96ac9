"""The headers of csrc/peer under ThreadSanitizer, with threads as ranks: peer_threads.cpp, which checks every row."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
# A minute is far above what any run takes, so that a deadlock fails the test and not the machine.
PATIENCE = 60.0


def _compile(source: Path, csrc: Path, program: Path) -> "subprocess.CompletedProcess[str]":
    flags = ["-std=c++20", "-g", "-O1", "-Wall", "-Wextra", "-ffp-contract=off", "-fsanitize=thread", f"-I{csrc}"]
    return subprocess.run(["g++", *flags, str(source), "-o", str(program)], capture_output=True, text=True)


def _run(program: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=PATIENCE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place for programs, where ThreadSanitizer can be used."""
    folder = tmp_path_factory.mktemp("threads")
    empty = folder / "empty.cpp"
    empty.write_text("int main() {}\n")
    if shutil.which("g++") is None or _compile(empty, CSRC, folder / "empty").returncode:
        pytest.skip("there is no g++ with ThreadSanitizer")
    if _run(folder / "empty").returncode:
        pytest.skip("ThreadSanitizer does not run on this kernel")
    return folder


def test_no_race_and_no_row_lost(folder: Path) -> None:
    """Sleeping at once and after a spin; and in slices so short that every wait is a pause, in all stages."""
    program = folder / "peer_threads"
    compiled = _compile(HERE / "peer_threads.cpp", CSRC, program)
    assert compiled.returncode == 0, compiled.stderr
    long, short = str(10**9), "1"
    for arguments in [("2", "100", "0", long), ("3", "100", "20000", long), ("3", "15", "0", short)]:
        ended = _run(program, *arguments)
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
    compiled = _compile(HERE / "peer_threads.cpp", csrc, folder / "relaxed")
    assert compiled.returncode == 0, compiled.stderr
    ended = _run(folder / "relaxed", "2", "50", "1000000", str(10**9))
    assert ended.returncode
    assert "WARNING: ThreadSanitizer: data race" in ended.stderr
