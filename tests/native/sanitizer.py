"""Compiling a program with ThreadSanitizer and running it, for tests of what ranks share."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
# A minute is far above what any run takes, so that a deadlock fails the test and not the machine.
PATIENCE = 60.0


def compile_program(source: Path, csrc: Path, program: Path) -> "subprocess.CompletedProcess[str]":
    """`source`, against the headers in `csrc`."""
    flags = ["-std=c++20", "-g", "-O1", "-Wall", "-Wextra", "-ffp-contract=off", "-fsanitize=thread", f"-I{csrc}"]
    return subprocess.run(["g++", *flags, str(source), "-o", str(program)], capture_output=True, text=True)


def run_program(program: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Its words and status."""
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=PATIENCE)


def need_sanitizer(folder: Path) -> None:
    """Skip where ThreadSanitizer cannot be used; `folder` is for a program that tries."""
    empty = folder / "empty.cpp"
    empty.write_text("int main() {}\n")
    if shutil.which("g++") is None or compile_program(empty, CSRC, folder / "empty").returncode:
        pytest.skip("there is no g++ with ThreadSanitizer")
    if run_program(folder / "empty").returncode:
        pytest.skip("ThreadSanitizer does not run on this kernel")
