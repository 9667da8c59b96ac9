"""The files with the results: a page of tables, and all figures as JSON."""

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

from benchmarks.strategies.figures import Outcome
from benchmarks.strategies.subjects import PROMPT_TOKENS, REQUESTS
from benchmarks.strategies.table import setting_section
from benchmarks.strategies.variants import HOT_EXPERTS
from mixtralkit.bench.machine_facts import processor_name


def write_results(folder: Path, outcomes: Sequence[Outcome]) -> Path:
    """Write strategies-DATE.json and .md; returns the latter."""
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "device": f"{processor_name()}, {len(os.sched_getaffinity(0))} cores, "
        f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}",
        "command": shlex.join(["python", "-m", "benchmarks.strategies", *map(_shown, sys.argv[1:])]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / f"strategies-{facts['date']}"
    document: dict[str, Any] = {**facts, "outcomes": [asdict(outcome) for outcome in outcomes]}
    base.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    page = base.with_suffix(".md")
    page.write_text("\n".join(_page(facts, outcomes)), encoding="utf-8")
    return page


def _page(facts: dict[str, str], outcomes: Sequence[Outcome]) -> list[str]:
    rounds = 1 + max(outcome.round for outcome in outcomes)
    text = (
        f"{facts['device']}. Hosts are network namespaces on this machine, which share its cores, with one rank each. "
        f"{REQUESTS} requests of {PROMPT_TOKENS} tokens at once; every variant gives the text of one process. Medians "
        f"of {rounds} rounds (least to most); ratios are taken within a round. MB are those that the hosts' interfaces "
        f"sent, of prefill and decode together. Hot are the {HOT_EXPERTS} experts of each layer that one process sent "
        "most rows to."
    )
    lines = [f"# Strategies between hosts, {facts['date']}", "", f"`{facts['command']}`", "", text, ""]
    for setting in dict.fromkeys(outcome.setting for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.setting == setting]
        lines += [*setting_section(setting, own), ""]
    return lines


def _shown(word: str) -> str:
    """A word of the command line without this machine's own folders."""
    return Path(word).name if "/" in word else word
