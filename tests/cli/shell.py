"""The program in processes of its own, as typed in a shell."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "mixtralkit.cli.main")
EXAMPLE = str(ROOT / "tools" / "example.py")
PATIENCE = 120.0  # seconds; far above what any run needs, so that a hang fails the test and not the machine


def environment(**more: str) -> dict[str, str]:
    """The environment of the tests, with the package to be found from anywhere."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def run(command: Sequence[str], *, stdin: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run `command` to its end."""
    return subprocess.run(
        command,
        input=stdin,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def start(command: Sequence[str]) -> "subprocess.Popen[str]":
    """Start `command` with pipes to talk to it."""
    return subprocess.Popen(
        command,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def torchrun(nproc: int, *words: str, options: Sequence[str] = ("--standalone",)) -> list[str]:
    """The command that starts tools/example.py on `nproc` ranks of a node."""
    launcher = [sys.executable, "-m", "torch.distributed.run", *options, f"--nproc_per_node={nproc}"]
    return [*launcher, EXAMPLE, *words]


def read_until(process: "subprocess.Popen[str]", mark: str) -> None:
    """Read the output of `process` up to the line with `mark`."""
    assert process.stdout is not None
    for line in process.stdout:
        if mark in line:
            return
    raise AssertionError(f"the output ended before {mark!r}: {process.communicate()[1]}")
