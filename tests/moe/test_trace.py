"""Spans as events of the trace's format, by hand, and how many of them are kept."""

import pytest

from mixtralkit.moe import timeline as timeline_module
from mixtralkit.moe.timeline import COMMUNICATION, STEPS, Span, Timeline
from mixtralkit.moe.trace import LANES, events_of, names_of, rows_of


def test_a_span_becomes_a_complete_event() -> None:
    """Times are microseconds from the origin; what is not of a layer says nothing of one."""
    spans = [Span(COMMUNICATION, "dispatch", 3, 1, 10.0005, 10.002), Span(STEPS, "decode step 2", -1, -1, 10.0, 11.0)]
    rows = rows_of(spans, origin=10.0)
    lane = LANES.index(COMMUNICATION)
    assert rows == [(lane, "dispatch", 3, 1, 500_000, 2_000_000), (0, "decode step 2", -1, -1, 0, 1_000_000_000)]
    dispatch, step = events_of(5, rows)
    assert dispatch == {
        "ph": "X",
        "pid": 5,
        "tid": lane,
        "cat": COMMUNICATION,
        "name": "dispatch",
        "ts": 500.0,
        "dur": 1500.0,
        "args": {"layer": 3, "part": 1},
    }
    assert step["args"] == {}


def test_ranks_and_lanes_have_names_in_their_order() -> None:
    events = names_of(2, "here")
    names = {(event["tid"], event["name"]): event["args"] for event in events}
    assert {(event["ph"], event["pid"]) for event in events} == {("M", 2)}
    assert names[0, "process_name"] == {"name": "rank 2 on here"}
    assert names[0, "process_sort_index"] == {"sort_index": 2}
    assert [names[lane, "thread_name"]["name"] for lane in range(4)] == list(LANES)
    assert [names[lane, "thread_sort_index"]["sort_index"] for lane in range(4)] == [0, 1, 2, 3]


def test_a_long_run_keeps_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums go on."""
    monkeypatch.setattr(timeline_module, "MOST_SPANS", 4)
    timeline = Timeline(keep_spans=True)
    for call in range(3):
        timeline.add_in_turn(call, 0.0, 1.0, 2.0, 3.0)
    assert [(span.layer, span.name) for span in timeline.spans] == [
        (0, "dispatch"),
        (0, "experts"),
        (0, "combine"),
        (1, "dispatch"),
    ]
    assert (timeline.left_out, timeline.communication) == (5, 6.0)


def test_without_a_trace_nothing_is_kept_or_left_out() -> None:
    timeline = Timeline()
    timeline.add_in_turn(0, 0.0, 1.0, 2.0, 3.0)
    timeline.keep([Span(STEPS, "decode step 1", -1, -1, 0.0, 1.0)])
    assert (timeline.spans, timeline.left_out) == ([], 0)
