"""What fetching replicas costs the steps that run meanwhile: `python -m benchmarks.transfer_cost`.

The checkpoint of Zipf's law (zipf_checkpoint.py) on two hosts in network namespaces, once with an adaptive placement
and once without, in turns; needs Linux and root, as benchmarks/strategies does. The steps of the trace during which
replicas were fetched are held against the same steps of the run without: until the replicas are switched, both do the
same. Nothing of a transfer goes over the wire.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.strategies.command_line import count, rate
from benchmarks.strategies.job import ROOT, run_on_hosts
from benchmarks.strategies.subjects import REQUESTS, Subject, zipf_subject
from benchmarks.zipf_checkpoint import CONFIG
from mixtralkit.errors import MixtralKitError
from tests.netns import why_not

RANKS = 2

ADAPTIVE = ("--placement", "adaptive", "--replica-memory", "1GB")


def decode_steps(events: Sequence[dict[str, Any]], rank: int) -> list[tuple[float, float]]:
    """Begin and duration of each decode step of a rank, in microseconds."""
    return [(e["ts"], e["dur"]) for e in events if e.get("pid") == rank and e["name"].startswith("decode step")]


def steps_during(events: Sequence[dict[str, Any]], rank: int) -> list[int]:
    """The numbers of the decode steps that ran while the rank's first transfer did, from begin to end.

    Until it ends no replica is in force, so that they do what the steps of a run without do. Raises `RuntimeError`
    where there was no transfer.
    """
    transfers = [(e["ts"], e["ts"] + e["dur"]) for e in events if e.get("cat") == "replicas" and e["pid"] == rank]
    if not transfers:
        raise RuntimeError("no replica was fetched: none was predicted to pay")
    begin, end = transfers[0]
    steps = enumerate(decode_steps(events, rank))
    return [number for number, (at, duration) in steps if at >= begin and at + duration <= end]


def ratios(with_transfer: Sequence[float], without: Sequence[float]) -> dict[str, float]:
    """How much longer the steps are, in the middle and for the slowest tenth."""
    tenth = {name: statistics.quantiles(found, n=10)[-1] for name, found in (("with", with_transfer), ("w/o", without))}
    return {
        "median": statistics.median(with_transfer) / statistics.median(without),
        "slowest tenth": tenth["with"] / tenth["w/o"],
    }


def measured_round(subject: Subject, options: argparse.Namespace) -> tuple[int, dict[str, float]]:
    """How many steps ran during a transfer, and how much longer they took than without; one run of each kind."""
    durations: dict[str, list[float]] = {}
    during: list[int] = []
    for name, flags in (("adaptive", ADAPTIVE), ("plain", ())):
        events = traced_run(subject, options, name, flags)
        during = during or steps_during(events, 0)
        durations[name] = [decode_steps(events, rank)[step][1] for rank in range(RANKS) for step in during]
    return len(during), ratios(durations["adaptive"], durations["plain"])


def traced_run(subject: Subject, options: argparse.Namespace, name: str, flags: Sequence[str]) -> list[dict[str, Any]]:
    """The events of the trace of a run with `flags`."""
    trace = options.work / "transfer.json"
    words = ["-m", str(subject.folder), "--prompt-file", str(subject.prompts), "--batch-size", str(REQUESTS // RANKS)]
    words += ["--max-tokens", "48", "--report", "json", "--trace", str(trace), "--dispatch", "collective", *flags]
    run_on_hosts(words, count=RANKS, rate=options.link, logs=options.work / "logs" / f"transfer-{name}")
    events: list[dict[str, Any]] = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    return events


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.transfer_cost", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--link", type=rate, default="100mbit")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "strategies", help="checkpoints and logs; kept")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = arguments(words)
    if (problem := why_not(options.link)) is not None:
        sys.exit(f"python -m benchmarks.transfer_cost: {problem}")
    options.work.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[float]] = {}
    try:
        subject = zipf_subject(options.work, CONFIG)
        for number in range(options.rounds):
            steps, of_round = measured_round(subject, options)
            for name, ratio in of_round.items():
                found.setdefault(name, []).append(ratio)
            told = ", ".join(f"{name} {ratio - 1:+.1%}" for name, ratio in of_round.items())
            print(f"round {number + 1}: {steps} decode steps on {RANKS} ranks during a transfer: {told}", flush=True)
    except (RuntimeError, MixtralKitError) as error:
        sys.exit(f"python -m benchmarks.transfer_cost: {error}")
    print(", ".join(f"{name} {statistics.median(every) - 1:+.1%}" for name, every in found.items()))


if __name__ == "__main__":
    main()
