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
    """The numbers of the decode steps that ran while the rank's first transfer did, from begin to end."""
    transfers = [(e["ts"], e["ts"] + e["dur"]) for e in events if e.get("cat") == "replicas" and e["pid"] == rank]
    if not transfers:
        raise SystemExit("no replica was fetched: none was predicted to pay")
    begin, end = transfers[0]
    steps = enumerate(decode_steps(events, rank))
    return [number for number, (at, duration) in steps if at >= begin and at + duration <= end]


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
    ratios = []
    for number in range(options.rounds):
        events = {}
        for name, flags in (("adaptive", ADAPTIVE), ("plain", ())):
            run_on_hosts([*words, *flags], count=2, rate=options.link, logs=options.work / "logs" / f"transfer-{name}")
            events[name] = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
        during = steps_during(events["adaptive"], 0)
        medians = {
            name: statistics.median(decode_steps(found, 0)[step][1] for step in during) / 1000
            for name, found in events.items()
        }
        ratios.append(medians["adaptive"] / medians["plain"])
        print(
            f"round {number + 1}: {len(during)} decode steps during a transfer of replicas, median "
            f"{medians['adaptive']:.1f} ms, without {medians['plain']:.1f} ms: {ratios[-1] - 1:+.1%}",
            flush=True,
        )
    print(f"median {statistics.median(ratios) - 1:+.1%}")


if __name__ == "__main__":
    main()
