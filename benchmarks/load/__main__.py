"""Puts the server under load and under too much of it, with one rank and with two, and writes what came out.

    python -m benchmarks.load [--seconds 120] [--clients 64] [--ranks 1,2] [-- --kv-tokens 1024]

A server of the demo model gets clients that ask for this and that: some twice, to compare a stream with an answer in
one piece, some leave in the middle, or do not read. At the end nothing may be left of them. Then another one gets as
many clients as it has room for, which ask as fast as they are answered, and ten times as many. Needs Linux. Exits with
1 if a promise was broken.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.load.document import write_results
from benchmarks.load.outcome import Outcome
from benchmarks.load.overload import Crowd, crowd
from benchmarks.load.storm import Aftermath, Storm, storm
from mixtralkit.cli.serve_options import ServeOptions
from mixtralkit.config import read_config
from tests.cli.demo_runs import DEMO
from tests.cli.served import Served, served

RESULTS = Path(__file__).parents[1] / "results"
TIMES = 10  # as many clients as there is room for
SCARCE = ("--kv-tokens=1024",)  # blocks, so that requests lose their places


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line; what goes after -- is for the first server."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="of random clients")
    parser.add_argument("--crowd-seconds", type=float, default=40.0, help="of each of the two crowds")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--ranks", type=_counts, default=(1, 2), help="how many, with commas between them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the results' folder")
    parser.add_argument("flags", nargs="*", metavar="-- FLAG", default=SCARCE, help="of the first server")
    return parser.parse_args(words)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def outcome_of(options: argparse.Namespace, ranks: int) -> Outcome:
    """Serve on so many ranks, and let everybody come."""
    group = ("--nproc", str(ranks)) if ranks > 1 else ()
    flags = (*options.flags, *group)
    with served(*flags) as server:
        plan, after = _storm(options, server)
    with served(*group) as server:
        crowds = _crowds(options, server, ranks)
    return Outcome(ranks, flags, plan, after, crowds)


def _storm(options: argparse.Namespace, server: Served) -> tuple[Storm, Aftermath]:
    shape = read_config(DEMO)
    plan = Storm(
        clients=options.clients,
        lead_in=options.seconds / 8,
        seconds=options.seconds,
        seed=options.seed,
        vocabulary=shape.vocab_size,
        longest=shape.context * 3 // 4,
    )
    return plan, asyncio.run(storm(server.url, plan, [server.process.pid, *server.ranks()]))


def _crowds(options: argparse.Namespace, server: Served, ranks: int) -> tuple[Crowd, Crowd]:
    room = ServeOptions.batch_size * ranks + ServeOptions.max_waiting
    vocabulary = read_config(DEMO).vocab_size

    def of(clients: int) -> Crowd:
        return asyncio.run(crowd(server.url, clients, options.crowd_seconds, options.seed, vocabulary))

    return of(room), of(TIMES * room)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, write and print."""
    options = arguments(words)
    outcomes: list[Outcome] = []
    for ranks in options.ranks:
        outcomes.append(outcome_of(options, ranks))
        page = write_results(options.results, outcomes)
    print(page.read_text(encoding="utf-8"))
    if not all(verdict.kept for outcome in outcomes for verdict in outcome.verdicts):
        sys.exit(1)


if __name__ == "__main__":
    main()
