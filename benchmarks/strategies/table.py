"""The results as Markdown: for each setting a table of the variants, and the goals."""

from collections.abc import Sequence

from benchmarks.strategies.figures import Figures, Measure, Outcome, Setting, median_of, of_variant, ratios
from benchmarks.strategies.goals import goals_of
from benchmarks.strategies.variants import PLAIN

HEAD = (
    "| variant | prefill, tokens/s | to plain | decode, tokens/s | to plain | MB between hosts | to plain | hidden | "
    "imbalance |"
)


def setting_section(setting: Setting, outcomes: Sequence[Outcome]) -> list[str]:
    """The lines for one setting, whose outcomes are given."""
    lines = [f"## {setting.subject}, {setting.hosts} hosts, {setting.rate}", "", HEAD, "|---" * 9 + "|"]
    variants = dict.fromkeys(outcome.variant for outcome in outcomes)
    lines += [_row(outcomes, variant) for variant in variants]
    lines += ["", "| goal | at least | found | |", "|---|---|---|---|"]
    for goal in goals_of(setting, outcomes):
        lines.append(f"| {goal.text} | {goal.wanted:g} | {_number(goal.found, '.2f')} | {goal.verdict} |")
    return lines


def _row(outcomes: Sequence[Outcome], variant: str) -> str:
    own = of_variant(outcomes, variant)
    cells = [variant]
    measures: tuple[tuple[Measure, float], ...] = (
        (lambda figures: figures.prefill, 1.0),
        (lambda figures: figures.decode, 1.0),
        (lambda figures: figures.wire_bytes, 1e6),
    )
    for measure, unit in measures:
        cells += [_span([measure(figures) / unit for figures in own]), _to_plain(outcomes, variant, measure)]
    cells += [_share(own), _number(median_of(figures.imbalance for figures in own), ".2f")]
    return f"| {' | '.join(cells)} |"


def _to_plain(outcomes: Sequence[Outcome], variant: str, measure: Measure) -> str:
    return _number(median_of(ratios(outcomes, variant, [PLAIN], measure)), ".2f")


def _span(values: Sequence[float]) -> str:
    return f"{_number(median_of(values), '.1f')} ({min(values):.1f} to {max(values):.1f})"


def _share(own: Sequence[Figures]) -> str:
    return _number(median_of(figures.hidden_share for figures in own), ".0%")


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
