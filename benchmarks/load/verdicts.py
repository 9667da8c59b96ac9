"""What is promised of the server under load, and whether it was so."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.load.overload import Crowd
from benchmarks.load.resources import Growth, growth_of
from benchmarks.load.storm import BUSY, Aftermath

# For some minutes the allocator keeps more room than it did for what is under way at a time, up to 10 MB, though what
# is in use stays the same. A leak of tensors, or of 10 KB a request, is more within minutes. Smaller ones are not told
# by weight: tests/serve/test_load.py counts what is left.
MOST_GROWTH = 12_000_000  # bytes
MOST_THREADS = 3  # of rank 0's pools, whose threads begin when there is much to do at a time, and stay
MOST_SLOWER = 2.0


@dataclass(frozen=True)
class Verdict:
    """A promise, what was found, and whether it was kept."""

    promise: str
    found: str
    kept: bool


def storm_verdicts(after: Aftermath) -> list[Verdict]:
    """Of the clients that came and went."""
    counts, state = after.tally.counts, after.state
    left = {name: state[name] for name in BUSY}
    growths = [growth_of(series) for series in after.watch.series.values()]
    return [
        Verdict(
            "every stream equals the answer in one piece; nothing else than was asked for comes back",
            f"{counts['compared']:,} responses compared, {counts['problems']} problems",
            counts["compared"] > 0 and not counts["problems"],
        ),
        Verdict("no request and no block is left", str(left).strip("{}").replace("'", ""), not any(left.values())),
        Verdict(
            f"memory is flat, up to {MOST_GROWTH / 1e6:.0f} MB",
            ", ".join(f"{(growth.last_bytes - growth.first_bytes) / 1e6:+.1f} MB" for growth in growths)
            + f" in {growths[0].seconds:.0f} s",
            all(map(is_flat, growths)),
        ),
        Verdict(
            "no more files than before, and no threads but those of the pools",
            _more(growths),
            all(growth.more_threads <= MOST_THREADS and growth.more_files <= 0 for growth in growths),
        ),
    ]


def is_flat(growth: Growth) -> bool:
    """Whether a process grows by no more than what comes and goes."""
    return growth.last_bytes - growth.first_bytes <= MOST_GROWTH


def overload_verdicts(crowds: Sequence[Crowd]) -> list[Verdict]:
    """Of a crowd that fits, and one of ten times as many."""
    fitting, far_too_many = crowds
    assert fitting.first_token is not None
    assert far_too_many.first_token is not None
    slower = far_too_many.first_token.p99 / fitting.first_token.p99
    problems = sum(sum(one.problems.values()) for one in crowds)
    return [
        Verdict(
            f"first tokens of those let in come at most {MOST_SLOWER:g} times later (p99)",
            f"{slower:.2f} times",
            slower <= MOST_SLOWER,
        ),
        Verdict(
            "all others get 429 or 503 with Retry-After",
            f"{sum(far_too_many.refused.values()):,} refusals, {problems} problems",
            not problems and bool(far_too_many.refused),
        ),
    ]


def _more(growths: Sequence[Growth]) -> str:
    threads, files = (max(getattr(growth, f"more_{name}") for growth in growths) for name in ("threads", "files"))
    return f"{threads:+d} threads, {files:+d} files"
