"""Which strategies are in force for a run, and who asked for each. Checked once, when made, and never changed after.

All ranks must have equal ones. Those that leave every row where the gate sent it change the speed and nothing else;
a capacity (`drops_rows`) and an `outgoing_fraction` may change the text.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias

from mixtralkit.errors import UsageError

OverlapChoice: TypeAlias = Literal["off", "auto"] | int
PlacementChoice: TypeAlias = Literal["even", "adaptive"] | Path
HotExperts: TypeAlias = tuple[tuple[int | None, tuple[int, ...]], ...]

FEWEST_CHUNKS = 2
CAPACITY_MIN = 4  # rows, as in DeepSpeed-MoE


@dataclass(frozen=True, kw_only=True)
class Strategies:
    """What is in force; the defaults are those of a run that asks for nothing.

    `overlap` is "off", "auto" or the number of chunks in which rows travel. `group_size` is how many ranks exchange
    rows in one stage of the overlap, as FasterMoE has it; None is chunks of tokens instead. `placement` is "even",
    "adaptive" or the file of a plan. `hot_experts` are pairs of a layer (None: all of them) and the experts that every
    rank holds there, or with a `hot_scope` of node one rank at least of every node. `replica_memory` is how many bytes
    a rank may spend on replicas, None a default.

    `network_bandwidth` (bytes a second) and `compute_rate` (FLOP a second, of a rank) take the place of measurements.
    `alpha`, the hidden width of an expert over the model's, and `d_model`, the model's width, are what the user
    believes of the checkpoint. `ranks_per_node` consecutive ranks count as a node; None is the hosts as they are.
    `outgoing_fraction` is the share of a rank's rows that may leave its node; None is no limit, and the gate's choice.

    An expert takes at most `capacity_factor` times its even share of a rank's rows in a step, None is no limit, and one
    that the rank does not hold itself `capacity_cold` times, None as the others; `capacity_min` rows it always takes.

    `sources` says who gave a field its value, such as "--overlap" or the name of a variable; it takes no part in
    comparisons. Raises `UsageError`, naming the source, for a value out of range and for a contradiction.
    """

    overlap: OverlapChoice = "off"
    group_size: int | None = None
    placement: PlacementChoice = "even"
    hot_experts: HotExperts = ()
    hot_scope: Literal["rank", "node"] = "rank"
    replica_memory: int | None = None
    network_bandwidth: float | None = None
    compute_rate: float | None = None
    alpha: float | None = None
    d_model: int | None = None
    ranks_per_node: int | None = None
    outgoing_fraction: float | None = None
    capacity_factor: float | None = None
    capacity_min: int = CAPACITY_MIN
    capacity_cold: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.overlap, int) and self.overlap < FEWEST_CHUNKS:
            raise self._refused("overlap", f"off, auto or a number of chunks of at least {FEWEST_CHUNKS} is needed")
        self._require_at_least(1, "group_size", "d_model", "ranks_per_node")
        self._require_at_least(0, "replica_memory", "capacity_min")
        self._require_positive("network_bandwidth", "compute_rate", "alpha", "capacity_factor", "capacity_cold")
        if self.outgoing_fraction is not None and not 0 <= self.outgoing_fraction <= 1:
            raise self._refused("outgoing_fraction", "a fraction from 0 to 1 is needed")
        self._check_overlap()
        self._check_placement()
        self._check_capacity()

    @property
    def overlaps(self) -> bool:
        """Whether communication may run under computation."""
        return self.overlap != "off"

    @property
    def adaptive(self) -> bool:
        """Whether the placement is decided while running."""
        return self.placement == "adaptive"

    @property
    def plan_file(self) -> Path | None:
        """The file that the placement is read from, if it is."""
        return self.placement if isinstance(self.placement, Path) else None

    @property
    def may_replicate(self) -> bool:
        """Whether ranks may hold experts beyond an even split."""
        return self.placement != "even" or bool(self.hot_experts)

    @property
    def drops_rows(self) -> bool:
        """Whether rows over a capacity are dropped, which may change the text."""
        return self.capacity_factor is not None or self.capacity_cold is not None

    def given(self, name: str) -> bool:
        """Whether the field `name` was asked for."""
        return name in self.sources or getattr(self, name) != _DEFAULTS[name]

    def source(self, name: str) -> str:
        """Who gave the field `name` its value; the field's own name where nobody is known."""
        return self.sources.get(name, name)

    def _require_at_least(self, least: int, *names: str) -> None:
        for name, value in self._values(names):
            if not value >= least:
                raise self._refused(name, f"at least {least} is needed")

    def _require_positive(self, *names: str) -> None:
        for name, value in self._values(names):
            if not 0 < value < math.inf:
                raise self._refused(name, "a finite number above 0 is needed")

    def _values(self, names: Iterable[str]) -> Iterator[tuple[str, float]]:
        return ((name, getattr(self, name)) for name in names if getattr(self, name) is not None)

    def _check_overlap(self) -> None:
        if isinstance(self.overlap, int) and self.group_size is not None:
            raise UsageError(
                f"{self._said('overlap')} cuts the rows into chunks and {self._said('group_size')} into groups of "
                "ranks; use one of the two, or an overlap of auto with groups"
            )

    def _check_placement(self) -> None:
        if self.hot_scope != "rank" and not self.hot_experts:
            raise UsageError(f"{self._said('hot_scope')} is about hot experts, and none are given")
        if self.hot_experts and self.placement != "even":
            raise UsageError(
                f"{self._said('placement')} decides which experts have replicas, and so does "
                f"{self.source('hot_experts')}; use one of the two"
            )

    def _check_capacity(self) -> None:
        if self.drops_rows and self.overlaps:
            raise UsageError(
                f"{self._said('overlap')} cuts a step's rows into parts, and a capacity counts all of them; use one of "
                "the two"
            )
        if self.given("capacity_min") and not self.drops_rows:
            raise UsageError(
                f"{self._said('capacity_min')} needs a capacity factor too, for all experts or for cold ones: without "
                "one no row is dropped"
            )

    def _refused(self, name: str, allowed: str) -> UsageError:
        return UsageError(f"{self.source(name)} is {getattr(self, name)}; {allowed}")

    def _said(self, name: str) -> str:
        return f"{self.source(name)} {getattr(self, name)}"


_DEFAULTS: dict[str, Any] = {item.name: item.default for item in fields(Strategies)}
