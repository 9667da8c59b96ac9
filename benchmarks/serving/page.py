"""What the rounds say, as Markdown: medians and spread, ratios round by round, and how they stand to the goals."""

import statistics
from collections.abc import Callable, Sequence

from benchmarks.peers.processors import QUIET
from benchmarks.serving.contenders import OURS
from benchmarks.serving.loads import PREFIX
from benchmarks.serving.rounds import Outcome

Measure = Callable[[Outcome], float]
FASTER, LEAST_REUSE, MOST_OVERHEAD = 1.5, 8.0, 0.05

COLUMNS: dict[str, Measure] = {
    "output tokens/s": lambda outcome: outcome.figures["output_tokens_per_second"],
    "requests/s": lambda outcome: outcome.figures["requests_per_second"],
    "TTFT median, ms": lambda outcome: 1e3 * outcome.figures["ttft"]["median"],
    "TTFT p99, ms": lambda outcome: 1e3 * outcome.figures["ttft"]["p99"],
    "TPOT median, ms": lambda outcome: 1e3 * outcome.figures["tpot"]["median"],
    "ITL p99, ms": lambda outcome: 1e3 * outcome.figures["itl"]["p99"],
}


def figures_table(outcomes: Sequence[Outcome]) -> list[str]:
    """A line a server, of medians (least to most of the rounds)."""
    lines = ["| | " + " | ".join(COLUMNS) + " |", "|---" * (1 + len(COLUMNS)) + "|"]
    for name in _names(outcomes):
        own = [outcome for outcome in outcomes if outcome.contender == name]
        lines.append(f"| {name} | " + " | ".join(_span([of(each) for each in own]) for of in COLUMNS.values()) + " |")
    return lines


def prefix_table(outcomes: Sequence[Outcome]) -> list[str]:
    """The time to the first token with a beginning that is new, with one that is not, and their ratio."""
    lines = [f"| TTFT after {PREFIX} tokens, ms | new | seen before | ratio |", "|---|---|---|---|"]
    for name in _names(outcomes):
        pairs = [pair for outcome in outcomes if outcome.contender == name for pair in outcome.pairs]
        new, seen = ([1e3 * pair[place] for pair in pairs] for place in (0, 1))
        lines.append(f"| {name} | {_span(new)} | {_span(seen)} | {_span([cold / warm for cold, warm in pairs])} |")
    return lines


def goals_table(outcomes: Sequence[Outcome]) -> list[str]:
    """What was to be reached, what was, and whether that is enough; left out is what was not measured."""
    own = [outcome for outcome in outcomes if outcome.contender == OURS]
    ratios = throughput_ratios(outcomes)
    reuse = [cold / warm for outcome in own for cold, warm in outcome.pairs]
    shares = [outcome.overhead["share"] for outcome in own if outcome.overhead is not None]
    lines = ["| goal | reached | |", "|---|---|---|"]
    if ratios:
        met = statistics.median(ratios) >= FASTER
        lines.append(f"| output tokens/s, {FASTER:g} times the best other | {_span(ratios)} | {_verdict(met)} |")
    if reuse:
        met = statistics.median(reuse) >= LEAST_REUSE
        lines.append(
            f"| first token {LEAST_REUSE:g} times sooner after a known beginning | {_span(reuse)} | {_verdict(met)} |"
        )
    if shares:
        met = statistics.median(shares) <= MOST_OVERHEAD
        percents = _span([100 * share for share in shares])
        lines.append(f"| at most {MOST_OVERHEAD:.0%} of a step beside the forward | {percents} % | {_verdict(met)} |")
    return lines


def throughput_ratios(outcomes: Sequence[Outcome]) -> list[float]:
    """Our tokens a second over those of the best other server, for each round that has both."""
    ratios = []
    for number in sorted({outcome.round for outcome in outcomes}):
        rates = {each.contender: each.figures["output_tokens_per_second"] for each in outcomes if each.round == number}
        own = rates.pop(OURS, None)
        if own is not None and rates:
            ratios.append(own / max(rates.values()))
    return ratios


def disturbed(outcomes: Sequence[Outcome]) -> int:
    """How many runs other programs disturbed."""
    return sum(outcome.others > QUIET for outcome in outcomes)


def _names(outcomes: Sequence[Outcome]) -> list[str]:
    return list(dict.fromkeys(outcome.contender for outcome in outcomes))


def _span(values: Sequence[float]) -> str:
    median, least, most = statistics.median(values), min(values), max(values)
    digits = 2 if median < 20 else 1
    return f"{median:,.{digits}f} ({least:,.{digits}f} to {most:,.{digits}f})"


def _verdict(met: bool) -> str:
    return "met" if met else "missed"
