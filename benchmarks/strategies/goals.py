"""What the strategies are to reach, and whether they did."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.strategies.figures import Outcome, Setting, median_of, of_variant, ratios
from benchmarks.strategies.variants import BOTH, HOT, OVERLAP, PLAIN

HIDDEN, FEWER_BYTES, FASTER, NO_WORSE = 0.6, 2.0, 1.7, 0.97
PHASES = ("prefill", "decode")


@dataclass(frozen=True)
class Goal:
    """Something to reach, at least `wanted`; `found` is the median of the rounds, None where nothing was measured."""

    text: str
    wanted: float
    found: float | None

    @property
    def verdict(self) -> str:
        """How it stands."""
        return "not measured" if self.found is None else "met" if self.found >= self.wanted else "missed"


def goals_of(setting: Setting, outcomes: Sequence[Outcome]) -> list[Goal]:
    """The goals for a setting: overlap costs nothing anywhere, and the others are for Zipf's routing on slow links."""
    goals = [Goal(f"overlap / plain, {phase}", NO_WORSE, _ratio(outcomes, OVERLAP, [PLAIN], phase)) for phase in PHASES]
    if setting.subject != "zipf" or setting.rate != "100mbit":
        return goals
    own = of_variant(outcomes, OVERLAP)
    in_cut = median_of(figures.hidden_of_hideable_if_cut for figures in own)
    in_all = median_of(figures.hidden_of_hideable for figures in own)
    goals.append(
        Goal("of the communication that fits under computation, hidden in the steps that were cut", HIDDEN, in_cut)
    )
    goals.append(Goal("the same of all steps", HIDDEN, in_all))
    goals.append(Goal("bytes between hosts, plain / hot experts", FEWER_BYTES, _saved(outcomes)))
    goals += [Goal(f"hot experts / plain, {phase}", FASTER, _ratio(outcomes, HOT, [PLAIN], phase)) for phase in PHASES]
    return goals + [
        Goal(f"both / the better of the two, {phase}", NO_WORSE, _ratio(outcomes, BOTH, [OVERLAP, HOT], phase))
        for phase in PHASES
    ]


def _ratio(outcomes: Sequence[Outcome], variant: str, others: Sequence[str], phase: str) -> float | None:
    return median_of(ratios(outcomes, variant, others, lambda figures: getattr(figures, phase)))


def _saved(outcomes: Sequence[Outcome]) -> float | None:
    return median_of(ratios(outcomes, PLAIN, [HOT], lambda figures: figures.bytes_between_nodes))
