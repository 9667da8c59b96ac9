"""Spans as events of Chrome's trace format: a process a rank, a thread a lane. Pure functions.

The format: "Trace Event Format" of the Chromium project, read by chrome://tracing and ui.perfetto.dev. Times there are
microseconds.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from mixtralkit.moe.timeline import COMMUNICATION, COMPUTATION, REPLICAS, STEPS, Span

LANES = (STEPS, COMPUTATION, COMMUNICATION, REPLICAS)  # from the top down

Row = tuple[int, str, int, int, int, int]  # lane, name, layer, part, begin and end in nanoseconds: to be sent


def rows_of(spans: Iterable[Span], origin: float) -> list[Row]:
    """`spans` in short, with times from `origin` on."""
    return [
        (
            LANES.index(span.lane),
            span.name,
            span.layer,
            span.part,
            round((span.begin - origin) * 1e9),
            round((span.end - origin) * 1e9),
        )
        for span in spans
    ]


def events_of(rank: int, rows: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    """A complete event for each of the rank's rows."""
    return [
        {
            "ph": "X",
            "pid": rank,
            "tid": lane,
            "cat": LANES[lane],
            "name": name,
            "ts": begin / 1000,
            "dur": (end - begin) / 1000,
            "args": {key: number for key, number in (("layer", layer), ("part", part)) if number >= 0},
        }
        for lane, name, layer, part, begin, end in rows
    ]


def names_of(rank: int, host: str) -> list[dict[str, Any]]:
    """What a rank and its lanes are called, and their order."""
    lanes = enumerate(LANES)
    return [
        _about(rank, 0, "process_name", name=f"rank {rank} on {host}"),
        _about(rank, 0, "process_sort_index", sort_index=rank),
        *(
            event
            for lane, name in lanes
            for event in (
                _about(rank, lane, "thread_name", name=name),
                _about(rank, lane, "thread_sort_index", sort_index=lane),
            )
        ),
    ]


def _about(rank: int, lane: int, what: str, **facts: Any) -> dict[str, Any]:
    return {"ph": "M", "pid": rank, "tid": lane, "name": what, "args": facts}
