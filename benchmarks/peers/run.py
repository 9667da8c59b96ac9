"""Times mixtralkit beside llama.cpp, transformers and vLLM on this machine's CPU, in turn, and writes what came out.

    python benchmarks/peers/run.py --work FOLDER [--only llama.cpp,transformers]

Everyone runs the 791 M shape with random weights: decode of 1 and of 8 requests past prompts of 32 tokens, and the
prefill of 512 tokens. The work folder gets a Python environment for each of the others and the files that they read:
some 8 GB, and minutes of compiling, the first time. A contender that cannot be installed is left out, and the results
say so.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import contenders
import torch
from environments import PACKAGES, python_for, version_of
from results import best_of, disturbed, figures_table, ratios_table
from rounds import Outcome, run_round

from mixtralkit.bench.machine_facts import processor_name

RESULTS = Path(__file__).parents[1] / "results"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="a folder for environments and weights; kept")
    parser.add_argument("--only", default=",".join(PACKAGES), help="which of the others, with commas between them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    for peer in PACKAGES:
        name = peer.partition(".")[0]
        parser.add_argument(f"--{name}-python", dest=peer, type=Path, help=f"a Python that has {PACKAGES[peer].name}")
    return parser.parse_args()


def taking_part(options: argparse.Namespace) -> tuple[list[contenders.Contender], dict[str, str]]:
    """All contenders, and what each of the others is: its version, or why it is missing."""
    makers: dict[str, Callable[[Path], list[contenders.Contender]]] = {
        "llama.cpp": lambda python: contenders.llama_cpp(options.work, python, options.threads),
        "transformers": lambda python: contenders.transformers(python, options.threads),
        "vllm": lambda python: contenders.vllm(options.work, python),
    }
    found, what = contenders.ours(options.work), {}
    for peer in options.only.split(","):
        try:
            python = getattr(options, peer) or python_for(peer, options.work)
            found += makers[peer](python)
            what[peer] = version_of(peer, python)
        except RuntimeError as error:
            what[peer] = f"left out: {error}"
    return found, what


def measured(options: argparse.Namespace, everyone: list[contenders.Contender]) -> list[list[Outcome]]:
    """The outcomes of the rounds; of transformers' ways only those that a first round finds best in something."""
    ways = [contender for contender in everyone if contender.system == "transformers"]
    best = best_of(run_round(ways, options.threads), "transformers")
    kept = [contender for contender in everyone if contender not in ways or contender.name in best]
    return [run_round(kept, options.threads) for _ in range(options.rounds)]


def document(options: argparse.Namespace, what: dict[str, str], rounds: list[list[Outcome]]) -> dict[str, Any]:
    """All that is known, as JSON."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "device": f"{processor_name()}, {options.threads} threads, {torch.backends.cpu.get_cpu_capability()}",
        "torch": torch.__version__,
        "others": what,
        "rounds": [[asdict(outcome) for outcome in outcomes] for outcomes in rounds],
    }


def page(facts: dict[str, Any], rounds: list[list[Outcome]]) -> str:
    """The results as Markdown."""
    others = ", ".join(f"{peer} {version}" for peer, version in facts["others"].items())
    text = (
        f"{facts['device']}; torch {facts['torch']}; {others}. The 791 M shape with random weights. "
        f"Milliseconds a step: the median of {len(rounds)} rounds (fastest to slowest). Ratios are their time / ours, "
        f"round by round. Other programs disturbed {disturbed(rounds)} of {sum(map(len, rounds))} runs."
    )
    command = " ".join(["python", "benchmarks/peers/run.py", *_shown(sys.argv[1:])])
    head = [f"# mixtralkit beside others, {facts['date']}", "", f"`{command}`", "", text, ""]
    return "\n".join([*head, *figures_table(rounds), "", *ratios_table(rounds), ""])


def _shown(words: list[str]) -> list[str]:
    """The words of the command line without this machine's own folders."""
    return [Path(word).name if "/" in word else word for word in words]


def main() -> None:
    """Measure and write."""
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    everyone, what = taking_part(options)
    rounds = measured(options, everyone)
    facts = document(options, what, rounds)
    words = "".join(letter if letter.isalnum() else " " for letter in processor_name().lower()).split()
    base = RESULTS / f"peers-{'-'.join(words)}-{options.threads}-threads-{facts['date']}"
    base.with_name(base.name + ".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    base.with_name(base.name + ".md").write_text(page(facts, rounds), encoding="utf-8")
    print(page(facts, rounds))


if __name__ == "__main__":
    main()
