"""The files with the results: a page, and all figures as JSON."""

import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.load.outcome import Outcome
from benchmarks.load.page import page_of
from benchmarks.load.resources import growth_of
from mixtralkit.bench.machine_facts import processor_name

EVERY = 5  # seconds between the sizes that are written down


def write_results(folder: Path, outcomes: Sequence[Outcome]) -> Path:
    """Write load-DATE.json and .md; returns the latter."""
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "device": f"{processor_name()}, {len(os.sched_getaffinity(0))} cores, torch {torch.__version__}",
        "command": shlex.join(["python", "-m", "benchmarks.load", *map(_shown, sys.argv[1:])]),
        "load_average": [round(load, 1) for load in os.getloadavg()],
    }
    base = folder / f"load-{facts['date']}"
    document = {**facts, "outcomes": [_document(outcome) for outcome in outcomes]}
    base.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    page = base.with_suffix(".md")
    page.write_text(page_of(facts, outcomes), encoding="utf-8")
    return page


def _document(outcome: Outcome) -> dict[str, Any]:
    after = outcome.aftermath
    return {
        "ranks": outcome.ranks,
        "flags": outcome.flags,
        "storm": asdict(outcome.storm),
        "counts": dict(after.tally.counts),
        "problems": after.tally.problems,
        "busiest": after.busiest,
        "preemptions": after.state["preemptions"],
        "prefix_hits": after.state["prefix_hits"],
        "growth": [asdict(growth_of(series)) for series in after.watch.series.values()],
        "resident_mb": [
            [round(held.resident_bytes / 1e6, 1) for held in series[::EVERY]] for series in after.watch.series.values()
        ],
        "crowds": [asdict(crowd) for crowd in outcome.crowds],
        "verdicts": [asdict(verdict) for verdict in outcome.verdicts],
    }


def _shown(word: str) -> str:
    """A word of the command line without this machine's own folders."""
    return Path(word).name if "/" in word else word
