"""Compares what the cost model predicts with what is measured, over all alternatives that --explain tells of.

    python -m benchmarks.prediction_error [--subjects demo,zipf] [--links none,1gbit,100mbit] [--max-tokens 32]

Two ranks answer 16 requests of 128 tokens, for each subject and link: on one host ("none"), or on two that are network
namespaces joined by links of that rate, which needs Linux and root. Prints, as Markdown, every alternative of the mean
prefill and decode step, and the errors of the predictions: of steps in one piece, and of overlapped ones.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.strategies.command_line import count, each, rate, some_of
from benchmarks.strategies.job import ROOT, run_alone, run_on_hosts
from benchmarks.strategies.rounds import Plan
from benchmarks.strategies.subjects import SUBJECTS, Subject
from benchmarks.zipf_checkpoint import CONFIG
from mixtralkit.errors import MixtralKitError
from tests.netns import why_not

RANKS = 2
ONE_HOST = "none"
Rows = Sequence[Mapping[str, Any]]  # alternatives, as --explain reports them


@dataclass(frozen=True)
class Errors:
    """Of some predictions, as shares of the measured times; `worst` has its sign."""

    count: int
    median: float
    worst: float


def errors_of(rows: Rows) -> Errors | None:
    """None where nothing was measured."""
    errors = [float(row["error"]) for row in rows if row["error"] is not None]
    if not errors:
        return None
    return Errors(len(errors), statistics.median(map(abs, errors)), max(errors, key=abs))


def price_of_choice(rows: Rows) -> float | None:
    """How many times the fastest measured alternative that one takes which is predicted to be fastest of them."""
    measured = [row for row in rows if row["measured_seconds"] is not None]
    if not measured:
        return None
    predicted = min(measured, key=lambda row: float(row["predicted_seconds"]))
    return float(predicted["measured_seconds"] / min(row["measured_seconds"] for row in measured))


def section(title: str, explained: Mapping[str, Any]) -> list[str]:
    """The lines of Markdown for one setting."""
    lines = [f"## {title}", ""]
    for way, rates in explained["rates"].items():
        shown = ", ".join(f"{name} {value:.4g}" for name, value in rates.items() if isinstance(value, float))
        lines += [f"{way}: {shown}", ""]
    for name, step in explained["steps"].items():
        lines += [f"### A {name} step, tokens of the ranks {step['tokens_of_ranks']}", "", *_table(step), ""]
    return lines


def summary(found: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """A line for each setting and kind of step, and one for all; `found` are `section`'s arguments."""
    head = "| setting | step | in one piece: alternatives, median, worst | overlapped | predicted fastest / fastest |"
    lines = ["## Errors of predictions", "", head, "|---" * 5 + "|"]
    everything: list[Mapping[str, Any]] = []
    for title, explained in found:
        for name, step in explained["steps"].items():
            lines.append(_summary_line(title, name, step["alternatives"]))
            everything += step["alternatives"]
    both = [_shown(errors_of(rows)) for rows in _kinds(everything)]
    return [*lines, f"| all | | {' | '.join(both)} | |"]


def _summary_line(title: str, name: str, rows: Rows) -> str:
    price = price_of_choice(rows)
    cells = [title, name, *(_shown(errors_of(kind)) for kind in _kinds(rows)), "-" if price is None else f"{price:.2f}"]
    return f"| {' | '.join(cells)} |"


def _kinds(rows: Rows) -> tuple[Rows, Rows]:
    return [row for row in rows if row["parts"] == 1], [row for row in rows if row["parts"] > 1]


def _shown(errors: Errors | None) -> str:
    return "-" if errors is None else f"{errors.count}, {errors.median:.0%}, {errors.worst:+.0%}"


def _table(step: Mapping[str, Any]) -> list[str]:
    lines = ["| placement | dispatch | parts | predicted, ms | measured, ms | error |", "|---" * 6 + "|"]
    for row in step["alternatives"]:
        if row["measured_seconds"] is not None:
            times = f"{row['predicted_seconds'] * 1e3:.3f} | {row['measured_seconds'] * 1e3:.3f} | {row['error']:+.0%}"
            lines.append(f"| {row['placement']} | {row['dispatch']} | {row['parts']} | {times} |")
    return lines


def explained_run(subject: Subject, link: str, plan: Plan) -> dict[str, Any]:
    """What --explain tells of a run; raises `RuntimeError` when it fails."""
    words, logs = plan.words(subject, RANKS), plan.work / "logs" / f"explain-{subject.name}-{link}"
    if link == ONE_HOST:
        done = run_alone([*words, "--nproc", str(RANKS)], logs, ranks=RANKS)
    else:
        done = run_on_hosts(words, count=RANKS, rate=link, logs=logs)
    explained: dict[str, Any] = done.report["explain"]
    return explained


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line; what goes after -- is for every run, such as --hot-experts 0,1."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prediction_error", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--subjects", type=some_of(SUBJECTS), default=tuple(SUBJECTS))
    parser.add_argument("--links", type=each(_link), default=(ONE_HOST, "1gbit", "100mbit"))
    parser.add_argument("--max-tokens", type=count, default=32, help="the longest response")
    parser.add_argument("--config", default=CONFIG, help="the shape of the checkpoint of Zipf's law, or a params.json")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "prediction_error", help="checkpoints and logs")
    parser.add_argument("flags", nargs="*", metavar="-- FLAG", help="further flags of every run")
    return parser.parse_args(words)


def _link(text: str) -> str:
    return text if text == ONE_HOST else rate(text)


def _check_link(link: str) -> None:
    """Raise `RuntimeError` where there can be no such link."""
    if link != ONE_HOST and (problem := why_not(link)) is not None:
        raise RuntimeError(problem)


def main(words: Sequence[str] | None = None) -> None:
    """Run everything and print what came out."""
    options = arguments(words)
    options.work.mkdir(parents=True, exist_ok=True)
    plan = Plan(options.max_tokens, ["--explain", *options.flags], options.work)
    found: list[tuple[str, Mapping[str, Any]]] = []
    try:
        for link in options.links:
            _check_link(link)
        for name in options.subjects:
            subject = SUBJECTS[name](options.work, options.config)
            for link in options.links:
                where = "one host" if link == ONE_HOST else f"two hosts, {link}"
                found.append((f"{name}, {where}", explained_run(subject, link, plan)))
                print("\n".join(section(*found[-1])), flush=True)
    except (RuntimeError, MixtralKitError) as error:
        sys.exit(f"python -m benchmarks.prediction_error: {error}")
    print("\n".join(summary(found)))


if __name__ == "__main__":
    main()
