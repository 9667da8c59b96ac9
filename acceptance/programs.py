"""Clients that are programs: run to their end, with what they say kept in a file."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from acceptance.finding import Finding, read_findings

ROOT = Path(__file__).parents[1]
SECONDS = 900.0
SHOWN = 1500  # characters of what a failed program said
# No client may ask a model hub for anything.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1"}


class Failed(Exception):
    """A program ended with another status than 0, or not in time."""


@dataclass(frozen=True)
class Program:
    """A client's environment, and the folder in which it runs and writes."""

    python: Path
    folder: Path

    def run(self, name: str, *words: str, **variables: str) -> str:
        """Run the environment's command `name`; returns all it printed, which is in `name`.log too.

        Raises `Failed` with the end of that.
        """
        return self._run([str(self.python.with_name(name)), *words], name, variables)

    def module(self, name: str, *words: str) -> list[Finding]:
        """The findings of a module of this package, which runs in the client's environment."""
        output = self._run([str(self.python), "-m", f"acceptance.{name}", *words], name, {"PYTHONPATH": str(ROOT)})
        return read_findings(output.splitlines())

    def _run(self, command: Sequence[str], name: str, variables: dict[str, str]) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / f"{name}.log"
        # Their own terminals' width would break the lines of tables.
        environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1", **OFFLINE, **variables}
        with log.open("wb") as output:
            try:
                done = subprocess.run(
                    command, cwd=self.folder, env=environment, stdout=output, stderr=output, timeout=SECONDS
                )
            except subprocess.TimeoutExpired:
                raise Failed(f"{name} did not end within {SECONDS:g} s: {_end(log)}") from None
        if done.returncode != 0:
            raise Failed(f"{name} ended with status {done.returncode}: {_end(log)}")
        return log.read_text(encoding="utf-8", errors="replace")


def _end(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-SHOWN:].strip()
