"""What the rounds say: medians and spread, ratios round by round, and how they stand to the goals; as Markdown."""

import statistics
from collections.abc import Sequence

from rounds import QUIET, Outcome
from shape import MEASURES

# Ours and theirs -> the least ratio, their time / ours, for each of `MEASURES`.
GOALS = {
    ("mixtralkit bf16", "llama.cpp bf16"): (1.0, 1.6, 2.2),
    ("mixtralkit int8", "llama.cpp q8_0"): (1.1, 1.6, 1.25),
    ("mixtralkit int4", "llama.cpp q4_0"): (1.1, 1.4, 1.2),
    ("mixtralkit bf16", "transformers"): (1.8, 3.0, 1.2),
    ("mixtralkit bf16", "vllm"): (None, None, None),
}

Rounds = Sequence[Sequence[Outcome]]


def figures_table(rounds: Rounds) -> list[str]:
    """Milliseconds of each contender: the median and the span of the rounds, and of what limit, where it is known."""
    lines = ["| | " + " | ".join(MEASURES) + " |", "|---" * (1 + len(MEASURES)) + "|"]
    for name in dict.fromkeys(outcome.contender for outcomes in rounds for outcome in outcomes):
        own = [outcome for outcomes in rounds for outcome in outcomes if outcome.contender == name]
        lines.append(f"| {name} | " + " | ".join(_cell(own, measure) for measure in MEASURES) + " |")
    return lines


def ratios_table(rounds: Rounds) -> list[str]:
    """Their time / ours, the median and the span of the rounds, beside the goal."""
    lines = ["| ratio | " + " | ".join(MEASURES) + " |", "|---" * (1 + len(MEASURES)) + "|"]
    for (mine, theirs), goals in GOALS.items():
        ratios = [ratios_of(rounds, mine, theirs, measure) for measure in MEASURES]
        if all(ratios):
            cells = [_ratio(values, goal) for values, goal in zip(ratios, goals, strict=True)]
            lines.append(f"| {mine} against {theirs} | " + " | ".join(cells) + " |")
    return lines


def ratios_of(rounds: Rounds, mine: str, theirs: str, measure: str) -> list[float]:
    """The ratio of each round in which both took part; of several contenders of a system its fastest counts."""
    ratios = []
    for outcomes in rounds:
        own = [outcome.milliseconds[measure] for outcome in outcomes if outcome.contender == mine]
        other = [outcome.milliseconds[measure] for outcome in outcomes if outcome.contender.startswith(theirs)]
        if own and other:
            ratios.append(min(other) / own[0])
    return ratios


def disturbed(rounds: Rounds) -> int:
    """How many runs others disturbed."""
    return sum(outcome.others > QUIET for outcomes in rounds for outcome in outcomes)


def best_of(outcomes: Sequence[Outcome], system: str) -> set[str]:
    """The contenders of `system` that are fastest in at least one measure."""
    own = [outcome for outcome in outcomes if outcome.contender.startswith(system)]
    return {min(own, key=lambda outcome: outcome.milliseconds[measure]).contender for measure in MEASURES if own}


def _cell(outcomes: Sequence[Outcome], measure: str) -> str:
    times = [outcome.milliseconds[measure] for outcome in outcomes]
    percents = [outcome.percents[measure] for outcome in outcomes if measure in outcome.percents]
    of_limit = f", {statistics.median(percents):.0f} % of the limit" if percents else ""
    return f"{statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f}){of_limit}"


def _ratio(ratios: Sequence[float], goal: float | None) -> str:
    median = statistics.median(ratios)
    wanted = "" if goal is None else f", goal {goal:g}: {'met' if median >= goal else 'missed'}"
    return f"{median:.2f} ({min(ratios):.2f} to {max(ratios):.2f}){wanted}"
