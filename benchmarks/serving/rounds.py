"""Runs the servers in turn and gathers what each reached; the machine should do nothing else meanwhile."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.processors import busy_seconds, wait_for_quiet
from benchmarks.serving.contenders import CONCURRENCY, OURS, Contender
from benchmarks.serving.loads import Load, prefix_seconds, under_load
from benchmarks.serving.server_process import running


@dataclass(frozen=True)
class Outcome:
    """What a server reached in a round: the figures under load, and seconds to the first token of pairs of prompts that
    begin alike. `overhead` is our engine's. `others` is how many processors were busy with something else meanwhile.
    """

    contender: str
    round: int
    figures: dict[str, Any]
    pairs: list[tuple[float, float]]
    overhead: dict[str, float] | None
    others: float


def run_round(
    contenders: Sequence[Contender], number: int, load: Load, threads: int, work: Path, quick: bool
) -> list[Outcome]:
    """Each of the servers once; `quick` does not wait for a quiet machine."""
    outcomes = []
    for contender in contenders:
        for file in contender.files:
            _read(file)
        if not quick:
            wait_for_quiet()
        outcomes.append(_run(contender, number, load, threads, work))
        _tell(outcomes[-1])
    return outcomes


def _run(contender: Contender, number: int, load: Load, threads: int, work: Path) -> Outcome:
    busy, started, before = busy_seconds(), time.monotonic(), os.times()
    with running(contender, threads, work) as url:
        figures = under_load(url, load, seed=number)
        pairs = prefix_seconds(url, seed=number)
    overhead = _engine_overhead(contender.files[0].parent, threads) if contender.name == OURS else None
    after, seconds = os.times(), time.monotonic() - started
    own = after.children_user + after.children_system - before.children_user - before.children_system
    others = max(0.0, (busy_seconds() - busy - own) / seconds)
    return Outcome(contender.name, number, figures, pairs, overhead, others)


def _engine_overhead(folder: Path, threads: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.serving.engine_overhead", str(folder), str(CONCURRENCY)]
    variables = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"engine_overhead ended with status {done.returncode}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _tell(outcome: Outcome) -> None:
    tokens = outcome.figures["output_tokens_per_second"]
    print(f"round {outcome.round + 1}: {outcome.contender}: {tokens:.1f} tokens/s", file=sys.stderr, flush=True)


def _read(file: Path) -> None:
    with suppress(IsADirectoryError), file.open("rb") as opened:
        while opened.read(1 << 24):
            pass
