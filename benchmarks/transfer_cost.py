"""What fetching replicas costs the steps that run meanwhile: `python -m benchmarks.transfer_cost`.

The checkpoint of Zipf's law (zipf_checkpoint.py) on two hosts in network namespaces, once with an adaptive placement
and once without, in turns; needs Linux and root, as benchmarks/strategies does. The steps of the trace during which
replicas were fetched are held against the same steps of the run without: until the replicas are switched, both do the
same. Nothing of a transfer goes over the wire.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.strategies.job import ROOT, run_on_hosts
from benchmarks.strategies.subjects import REQUESTS, zipf_subject

ADAPTIVE = ("--placement", "adaptive", "--replica-memory", "1GB")


def decode_steps(events: Sequence[dict[str, Any]], rank: int) -> list[tuple[float, float]]:
    """Begin and duration of each decode step of a rank, in microseconds."""
    return [(e["ts"], e["dur"]) for e in events if e.get("pid") == rank and e["name"].startswith("decode step")]


def steps_during(events: Sequence[dict[str, Any]], rank: int) -> list[int]:
    """The numbers of the decode steps that ran while the rank's first transfer did, from begin to end.

    Until it ends no replica is in force, so that they do what the steps of a run without do.
    """
    transfers = [(e["ts"], e["ts"] + e["dur"]) for e in events if e.get("cat") == "replicas" and e["pid"] == rank]
    if not transfers:
        raise SystemExit("no replica was fetched: none was predicted to pay")
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer_cost")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--link", default="100mbit")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "strategies")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    subject = zipf_subject(options.work, "791m")
    trace = options.work / "transfer.json"
    words = ["-m", str(subject.folder), "--prompt-file", str(subject.prompts), "--batch-size", str(REQUESTS // 2)]
    words += ["--max-tokens", "48", "--report", "json", "--trace", str(trace), "--dispatch", "collective"]
    found: dict[str, list[float]] = {}
    for number in range(options.rounds):
        durations: dict[str, list[float]] = {}
        during: list[int] = []
        for name, flags in (("adaptive", ADAPTIVE), ("plain", ())):
            run_on_hosts([*words, *flags], count=2, rate=options.link, logs=options.work / "logs" / f"transfer-{name}")
            events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
            during = during or steps_during(events, 0)
            durations[name] = [decode_steps(events, rank)[step][1] for rank in range(2) for step in during]
        of_round = ratios(durations["adaptive"], durations["plain"])
        for name, ratio in of_round.items():
            found.setdefault(name, []).append(ratio)
        told = ", ".join(f"{name} {ratio - 1:+.1%}" for name, ratio in of_round.items())
        print(f"round {number + 1}: {len(during)} decode steps on 2 ranks during a transfer: {told}", flush=True)
    print(", ".join(f"{name} {statistics.median(every) - 1:+.1%}" for name, every in found.items()))


if __name__ == "__main__":
    main()
