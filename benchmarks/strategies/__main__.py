"""Times the strategies between "hosts" of this machine, joined by links of a limited rate, and writes what came out.

    python -m benchmarks.strategies [--rounds 3] [--hosts 2,4] [--links 1gbit,100mbit] [--subjects zipf,demo]

Hosts are network namespaces with one rank each, started by torchrun as on real machines: needs Linux and root. A job is
16 requests of 128 prompt tokens (a prefill of 2048) and of up to 64 tokens of response (decode at batch 16): for a
checkpoint of random weights whose experts are as popular as Zipf's law says, and for the demo model on words that go to
few of its experts. The variants take turns; each must give the text of one process, or the benchmark ends.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.strategies.command_line import count, each, rate, some_of
from benchmarks.strategies.document import write_results
from benchmarks.strategies.figures import Outcome, Setting
from benchmarks.strategies.job import ROOT
from benchmarks.strategies.rounds import Plan, reference_of, run_round
from benchmarks.strategies.subjects import SUBJECTS
from benchmarks.strategies.variants import DEFAULT, VARIANTS
from benchmarks.zipf_checkpoint import CONFIG
from mixtralkit.errors import MixtralKitError
from tests.netns import why_not


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line; what goes after -- is for every job."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.strategies", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--subjects", type=some_of(SUBJECTS), default=tuple(SUBJECTS))
    parser.add_argument("--hosts", type=each(count), default=(2, 4), help="how many, with commas between them")
    parser.add_argument("--links", type=each(rate), default=("1gbit", "100mbit"), help="rates as tc writes them")
    parser.add_argument("--variants", type=some_of(VARIANTS), default=DEFAULT, help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--max-tokens", type=count, default=64, help="the longest response")
    parser.add_argument("--config", default=CONFIG, help="the shape of the checkpoint of Zipf's law, or a params.json")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "strategies", help="checkpoints and logs; kept")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="the results' folder")
    parser.add_argument("flags", nargs="*", metavar="-- FLAG", help="further flags of every job")
    return parser.parse_args(words)


def measure(options: argparse.Namespace) -> Path:
    """Run everything; the results are written whenever a setting is done. Returns the page."""
    plan = Plan(options.max_tokens, tuple(options.flags), options.work)
    outcomes: list[Outcome] = []
    page = options.results
    for name in options.subjects:
        reference = reference_of(SUBJECTS[name](options.work, options.config), plan)
        for hosts, link in itertools.product(options.hosts, options.links):
            setting = Setting(name, hosts, link)
            for number in range(options.rounds):
                outcomes += run_round(setting, number, options.variants, reference, plan)
            page = write_results(options.results, outcomes)
    return Path(page)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, write and print."""
    options = arguments(words)
    for link in options.links:
        if (problem := why_not(link)) is not None:
            sys.exit(f"python -m benchmarks.strategies: {problem}")
    options.work.mkdir(parents=True, exist_ok=True)
    try:
        print(measure(options).read_text(encoding="utf-8"))
    except (RuntimeError, MixtralKitError) as error:
        sys.exit(f"python -m benchmarks.strategies: {error}")


if __name__ == "__main__":
    main()
