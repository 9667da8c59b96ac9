"""Runs the variants of a setting in turn, several times, and holds all of them to one text."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.strategies.figures import Outcome, Setting, figures_of
from benchmarks.strategies.job import run_alone, run_on_hosts
from benchmarks.strategies.subjects import REQUESTS, Subject
from benchmarks.strategies.variants import flags_of, hot_experts

# Drawn, so that random weights write random words, and not one word for ever.
SAMPLING = ("--temperature", "1", "--seed", "1")


@dataclass(frozen=True)
class Reference:
    """A subject, what one process answers to it, and the experts that were hot meanwhile."""

    subject: Subject
    responses: tuple[str, ...]
    hot: str


@dataclass(frozen=True)
class Plan:
    """What is common to all runs: the lengths of the responses, further flags of the job, and where files go."""

    max_tokens: int
    flags: Sequence[str]
    work: Path

    def words(self, subject: Subject, ranks: int) -> list[str]:
        """The job's command line on that many ranks, without a strategy."""
        batch = ["--batch-size", str(-(-REQUESTS // ranks)), "--max-tokens", str(self.max_tokens)]
        files = ["-m", str(subject.folder), "--prompt-file", str(subject.prompts)]
        return [*files, *batch, *SAMPLING, "--report", "json", *self.flags]


def reference_of(subject: Subject, plan: Plan) -> Reference:
    """Run one process."""
    done = run_alone(plan.words(subject, 1), plan.work / "logs" / f"{subject.name}-alone")
    return Reference(subject, done.responses, hot_experts(done.report["rows_per_layer_and_expert"]))


def run_round(
    setting: Setting, number: int, variants: Sequence[str], reference: Reference, plan: Plan
) -> list[Outcome]:
    """Each variant once; another one begins in each round. Raises `RuntimeError` for a failure, or another text."""
    first = number % len(variants)
    return [_run(setting, number, variant, reference, plan) for variant in (*variants[first:], *variants[:first])]


def _run(setting: Setting, number: int, variant: str, reference: Reference, plan: Plan) -> Outcome:
    name = f"{setting.subject}-{setting.hosts}-{setting.rate}-{variant.replace(' ', '-')}-{number}"
    words = [*plan.words(reference.subject, setting.hosts), *flags_of(variant, reference.hot)]
    done = run_on_hosts(words, count=setting.hosts, rate=setting.rate, logs=plan.work / "logs" / name)
    check_text(name, done.responses, reference.responses)
    outcome = Outcome(setting, number, variant, figures_of(done))
    print(outcome, file=sys.stderr, flush=True)
    return outcome


def check_text(name: str, responses: Sequence[str], expected: Sequence[str]) -> None:
    """Raise `RuntimeError` when a response is not that of one process."""
    if len(responses) != len(expected):
        raise RuntimeError(f"{name} gave {len(responses)} responses, and one process {len(expected)}")
    for prompt, (response, wanted) in enumerate(zip(responses, expected, strict=True)):
        if response != wanted:
            raise RuntimeError(f"{name} answers prompt {prompt} with {response!r}, and one process with {wanted!r}")
