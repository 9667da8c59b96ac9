"""When a rank's rows travelled and when its experts computed, and how much of the one happened under the other.

Times are seconds of time.perf_counter(), taken on the host: on a GPU they are those of the calls, not of the device.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from mixtralkit.ops.expert_mlp import Counts

COMMUNICATION, COMPUTATION, REPLICAS, STEPS = "communication", "computation", "replicas", "steps"
MOST_SPANS = 300_000  # that are kept: some 100 MB, and half a minute of tiny layers or an hour of large ones


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took a while, in one of the lanes above: `part` counts the chunks of an overlapped layer.

    What is not of one layer, or not of one part, has -1 there.
    """

    lane: str
    name: str
    layer: int
    part: int
    begin: float
    end: float


@dataclass
class Timeline:
    """Sums of what the layers did, and with `keep_spans` the first `MOST_SPANS` spans, for a trace; `left_out` counts
    the others.

    `hidden` is the part of `communication` during which this rank's experts computed. `hideable` is the most that could
    have been: of each call the lesser of communication and computation; `hideable_if_cut` is the same of the calls that
    were cut into parts. Rows are counted where their numbers are, on the host or on the device.
    """

    keep_spans: bool = False
    communication: float = 0.0
    computation: float = 0.0
    hidden: float = 0.0
    hideable: float = 0.0
    hideable_if_cut: float = 0.0
    rows_on_host: int = 0
    rows_on_device: torch.Tensor | None = None
    spans: list[Span] = field(default_factory=list)
    left_out: int = 0
    _kept: list[Counts] | None = None

    @property
    def rows_computed(self) -> int:
        """The rows that this rank's experts were given. Waits for the device where they are counted there."""
        return self.rows_on_host + (0 if self.rows_on_device is None else int(self.rows_on_device))

    def count_rows(self, counts_e: Counts) -> None:
        """Take in how many rows each of this rank's experts was given in a call."""
        if self._kept is not None:
            self._kept.append(counts_e)
            return
        if not isinstance(counts_e, torch.Tensor):
            self.rows_on_host += sum(counts_e)
            return
        rows = counts_e.sum()
        # Not in place: what was made in inference mode may not be changed outside of it.
        self.rows_on_device = rows if self.rows_on_device is None else self.rows_on_device + rows

    @contextmanager
    def kept(self) -> Iterator[list[Counts]]:
        """Take in nothing inside, but collect what `count_rows` is given: for who records a step and repeats it."""
        kept: list[Counts] = []
        self._kept = kept
        try:
            yield kept
        finally:
            self._kept = None

    def add(self, spans: Sequence[Span]) -> None:
        """Take in one call of one layer."""
        if self._kept is not None:
            return
        travel = [(span.begin, span.end) for span in spans if span.lane == COMMUNICATION]
        compute = [(span.begin, span.end) for span in spans if span.lane == COMPUTATION]
        communication, computation = _length(travel), _length(compute)
        self.communication += communication
        self.computation += computation
        self.hidden += _common(travel, compute)
        self.hideable += min(communication, computation)
        self.hideable_if_cut += min(communication, computation)
        self.keep(spans)

    def add_in_turn(self, layer: int, begin: float, arrived: float, computed: float, end: float) -> None:
        """Take in a call whose dispatch, experts and combine came one after the other."""
        if self._kept is not None:
            return
        self.communication += arrived - begin + end - computed
        self.computation += computed - arrived
        self.hideable += min(arrived - begin + end - computed, computed - arrived)
        if self.keep_spans:
            self.keep(
                [
                    Span(COMMUNICATION, "dispatch", layer, 0, begin, arrived),
                    Span(COMPUTATION, "experts", layer, 0, arrived, computed),
                    Span(COMMUNICATION, "combine", layer, 0, computed, end),
                ]
            )

    def keep(self, spans: Sequence[Span]) -> None:
        """For the trace, if there is to be one; the sums do not change."""
        if not self.keep_spans:
            return
        room = MOST_SPANS - len(self.spans)
        self.spans += spans[:room]
        self.left_out += max(0, len(spans) - room)


def _length(intervals: Sequence[tuple[float, float]]) -> float:
    return sum(end - begin for begin, end in intervals)


def _common(some: Sequence[tuple[float, float]], others: Sequence[tuple[float, float]]) -> float:
    """How long something of `some` and something of `others` went on; neither overlaps with itself."""
    return sum(
        max(0.0, min(end, other_end) - max(begin, other_begin))
        for begin, end in some
        for other_begin, other_end in others
    )
