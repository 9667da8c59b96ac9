"""The results as Markdown."""

from collections.abc import Sequence
from typing import Any

from benchmarks.load.outcome import Outcome
from benchmarks.load.overload import OUTPUT_TOKENS, PROMPT_TOKENS, Crowd
from benchmarks.load.resources import growth_of
from benchmarks.load.storm import Aftermath
from mixtralkit.bench.load.load_figures import Spread
from mixtralkit.sizes import counted

PROMISES = ("promise", "found", "")
CROWDS = ("clients", "answers/s", "refusals/s", "first token, ms: median", "p99", "whole answer, ms: median", "p99")
GROWTH = ("process", "resident, MB: begin", "end", "peak", "a second, KB", "more threads", "more files")


def page_of(facts: dict[str, Any], outcomes: Sequence[Outcome]) -> str:
    """The results as Markdown."""
    text = (
        f"{facts['device']}. The demo model, served by `mixtralkit serve`; clients and server share the cores. Load "
        f"average at the end {facts['load_average'][0]:g}, of which some is other programs'."
    )
    lines = [f"# The server under load, {facts['date']}", "", f"`{facts['command']}`", "", text, ""]
    for outcome in outcomes:
        lines += [*_section(outcome), ""]
    return "\n".join(lines)


def _section(outcome: Outcome) -> list[str]:
    storm, after, first = outcome.storm, outcome.aftermath, outcome.crowds[0]
    did = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in sorted(after.tally.counts.items()))
    most = after.busiest
    came = (
        f"`{' '.join(outcome.flags)}`: {storm.clients} clients for {storm.seconds:g} s (after {storm.lead_in:g} s that "
        f"do not count), with prompts, lengths, sampling, stops and numbers of responses by chance: {did}. At most "
        f"{most['running']:g} ran and {most['waiting']:g} waited at a time, with {most['kv_usage']:.0%} of the blocks "
        f"in use; {after.state['preemptions']:,} times a request lost its place. The page's figures came within "
        f"{most['seconds']:.2f} s. Resident memory is a straight line through its last two thirds."
    )
    crowds = (
        f"A server of its own with its own limits: {first.clients} clients, as many as it has room for, and ten times "
        f"as many; the last {first.seconds:g} s of each count. {PROMPT_TOKENS} tokens for {OUTPUT_TOKENS}, asked for "
        "again as soon as they are there, or when Retry-After says. First tokens count from the sending of a request "
        "that is let in."
    )
    lines = [f"## {counted(outcome.ranks, 'rank')}", "", came, "", *_head(GROWTH), *_growth_rows(after)]
    lines += ["", crowds, "", *_head(CROWDS), *map(_crowd_row, outcome.crowds), "", *_head(PROMISES)]
    lines += [_row(one.promise, one.found, "kept" if one.kept else "**broken**") for one in outcome.verdicts]
    return lines + [f"\n    {problem}" for problem in after.tally.problems]


def _growth_rows(after: Aftermath) -> list[str]:
    names = ["launcher", *(f"rank {rank}" for rank in range(len(after.watch.series) - 1))]
    if len(after.watch.series) == 1:
        names = ["rank 0"]
    rows = []
    for name, series in zip(names, after.watch.series.values(), strict=True):
        growth = growth_of(series)
        sizes = (growth.first_bytes, growth.last_bytes, growth.peak_bytes)
        slope = f"{growth.bytes_per_second / 1e3:+.1f}"
        more = (f"{growth.more_threads:+d}", f"{growth.more_files:+d}")
        rows.append(_row(name, *(f"{size / 1e6:.1f}" for size in sizes), slope, *more))
    return rows


def _crowd_row(crowd: Crowd) -> str:
    refused = sum(crowd.refused.values()) / crowd.seconds
    times = [*_milliseconds(crowd.first_token), *_milliseconds(crowd.latency)]
    return _row(f"{crowd.clients:,}", f"{crowd.answered / crowd.seconds:.1f}", f"{refused:.1f}", *times)


def _milliseconds(spread: Spread | None) -> tuple[str, str]:
    return ("", "") if spread is None else (f"{1e3 * spread.median:,.0f}", f"{1e3 * spread.p99:,.0f}")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _head(names: Sequence[str]) -> list[str]:
    return [_row(*names), "|---" * len(names) + "|"]
