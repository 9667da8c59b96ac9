"""Runs the contenders in turn, each in a process of its own, and watches who else uses the processors meanwhile."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from contenders import Contender
from processors import QUIET, busy_seconds, wait_for_quiet

TRIES = 3


@dataclass(frozen=True)
class Outcome:
    """What a contender told in one round; `percents` are of the limit, and only ours tells them.

    `others` is how many processors were busy with something else: above `QUIET` the figures are disturbed.
    """

    contender: str
    milliseconds: dict[str, float]
    percents: dict[str, float]
    others: float


def run_round(contenders: Sequence[Contender], threads: int, tell: bool = True) -> list[Outcome]:
    """Run each once, the least disturbed of a few tries; those that fail are left out."""
    outcomes = []
    for contender in contenders:
        tries: list[Outcome] = []
        while len(tries) < TRIES and not any(outcome.others <= QUIET for outcome in tries):
            tries.append(run_once(contender, threads))
        outcomes.append(min(tries, key=lambda outcome: outcome.others))
        if tell:
            print(json.dumps(asdict(outcomes[-1])), file=sys.stderr, flush=True)
    return outcomes


def run_once(contender: Contender, threads: int) -> Outcome:
    """Run it when the machine is quiet."""
    for file in contender.files:
        _read(file)
    wait_for_quiet()
    variables = {**os.environ, "OMP_NUM_THREADS": str(threads), **dict(contender.variables)}
    busy, started = busy_seconds(), time.monotonic()
    before = os.times()
    done = subprocess.run(contender.command, env=variables, stdout=subprocess.PIPE, text=True, check=False)
    after, seconds = os.times(), time.monotonic() - started
    if done.returncode:
        raise RuntimeError(f"{contender.name} ended with status {done.returncode}")
    own = after.children_user + after.children_system - before.children_user - before.children_system
    others = max(0.0, (busy_seconds() - busy - own) / seconds)
    return Outcome(contender.name, *figures_in(done.stdout), others)


def figures_in(output: str) -> tuple[dict[str, float], dict[str, float]]:
    """The milliseconds by measure, and for ours the percents of the limit."""
    for line in output.splitlines():
        if line.startswith("FIGURES "):
            return json.loads(line.removeprefix("FIGURES ")), {}
    milliseconds, percents = {}, {}
    for figure in json.loads(output)["runs"][0]["figures"]:
        size = figure["requests"] if figure["phase"] == "decode" else figure["prompt_tokens"]
        milliseconds[f"{figure['phase']} {size}"] = figure["milliseconds"]["median"]
        percents[f"{figure['phase']} {size}"] = figure["percent_of_limit"]["median"]
    return milliseconds, percents


def _read(file: Path) -> None:
    with file.open("rb") as opened:
        while opened.read(1 << 24):
            pass
