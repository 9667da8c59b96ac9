"""The figures of a run, read from its report, and what several rounds of them say."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.strategies.job import Done


@dataclass(frozen=True)
class Figures:
    """Of one run. `wire_bytes` is what the hosts' interfaces counted, from start to end; `bytes_between_nodes` what the
    steps sent, as the program counted it.
    """

    prefill: float  # tokens a second
    decode: float
    wire_bytes: int
    bytes_between_nodes: int
    hidden_share: float | None
    hidden_of_hideable: float | None
    hidden_of_hideable_if_cut: float | None
    imbalance: float


@dataclass(frozen=True)
class Setting:
    """Where variants are compared: what runs, on how many hosts, on links of which rate."""

    subject: str
    hosts: int
    rate: str


@dataclass(frozen=True)
class Outcome:
    """What a variant reached in one round of a setting."""

    setting: Setting
    round: int
    variant: str
    figures: Figures


Measure = Callable[[Figures], float]
# In the report's section on strategies.
TOLD = ("bytes_between_nodes", "hidden_share", "hidden_of_hideable", "hidden_of_hideable_if_cut", "imbalance")


def figures_of(done: Done) -> Figures:
    """The figures of a finished job."""
    report = done.report
    return Figures(
        prefill=report["prefill"]["tokens_per_second"],
        decode=report["decode"]["tokens_per_second"],
        wire_bytes=done.wire_bytes,
        **{name: report["strategies"][name] for name in TOLD},
    )


def of_variant(outcomes: Iterable[Outcome], variant: str) -> list[Figures]:
    """A variant's figures, round by round."""
    return [outcome.figures for outcome in outcomes if outcome.variant == variant]


def ratios(outcomes: Sequence[Outcome], variant: str, others: Sequence[str], measure: Measure) -> list[float]:
    """The variant's figure over the best of the `others`, in each round that has all of them."""
    rounds: dict[int, dict[str, float]] = {}
    for outcome in outcomes:
        rounds.setdefault(outcome.round, {})[outcome.variant] = measure(outcome.figures)
    complete = [found for found in rounds.values() if {variant, *others} <= found.keys()]
    return [found[variant] / max(found[other] for other in others) for found in complete]


def median_of(values: Iterable[float | None]) -> float | None:
    """The median of what there is."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
