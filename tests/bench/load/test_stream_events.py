"""Server-sent events, cut anywhere: the examples of the standard, but for lines that end in CR alone."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mixtralkit.bench.load.stream_events import EventParser

STREAM = (
    b": comment\n\ndata: one\n\nevent: x\ndata:two\ndata:  three\nid: 1\n\nretry: 5\n\ndata\n\n"
    b"data: {}\r\n\r\ndata: rest"
)
EVENTS = [b"one", b"two\n three", b"{}"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_events_are_the_same_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    parser = EventParser()
    parts = [STREAM[start:end] for start, end in itertools.pairwise(places)]
    assert [event for part in parts for event in parser.push(part)] == EVENTS


def test_every_byte_on_its_own() -> None:
    parser = EventParser()
    assert [event for byte in STREAM for event in parser.push(bytes([byte]))] == EVENTS


def test_an_unfinished_event_waits() -> None:
    parser = EventParser()
    assert parser.push(b"data: a") == []
    assert parser.push(b"b\n") == []
    assert parser.push(b"\n") == [b"ab"]
