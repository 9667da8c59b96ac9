"""Sums over spans, against numbers added up by hand."""

import torch

from mixtralkit.moe.timeline import COMMUNICATION, COMPUTATION, Span, Timeline


def test_hidden_is_what_lies_under_computation() -> None:
    """Communication from 0 to 4 and from 6 to 9, computation from 3 to 7: 1 + 1 of 7 seconds."""
    timeline = Timeline()
    timeline.add(
        [
            Span(COMMUNICATION, "dispatch", 0, 0, 0.0, 4.0),
            Span(COMMUNICATION, "combine", 0, 0, 6.0, 9.0),
            Span(COMPUTATION, "experts", 0, 0, 3.0, 7.0),
        ]
    )
    assert (timeline.communication, timeline.computation, timeline.hidden, timeline.hideable) == (7.0, 4.0, 2.0, 4.0)
    assert timeline.hideable_if_cut == 4.0
    assert timeline.spans == []


def test_one_after_the_other_hides_nothing() -> None:
    """The plain layer; its spans are kept where asked."""
    timeline = Timeline(keep_spans=True)
    timeline.add_in_turn(3, 1.0, 2.0, 5.0, 5.5)
    assert (timeline.communication, timeline.computation, timeline.hidden) == (1.5, 3.0, 0.0)
    assert (timeline.hideable, timeline.hideable_if_cut) == (1.5, 0.0)
    assert [(span.name, span.begin, span.end, span.layer) for span in timeline.spans] == [
        ("dispatch", 1.0, 2.0, 3),
        ("experts", 2.0, 5.0, 3),
        ("combine", 5.0, 5.5, 3),
    ]


def test_rows_are_counted_on_the_host_and_on_the_device() -> None:
    timeline = Timeline()
    timeline.count_rows([3, 4])
    timeline.count_rows(torch.tensor([5, 0, 6]))
    timeline.count_rows(torch.tensor([1, 1, 1]))
    assert timeline.rows_computed == 21


def test_rows_go_on_being_counted_outside_of_inference_mode() -> None:
    """Where torch lets nobody change in place what was made inside."""
    timeline = Timeline()
    with torch.inference_mode():
        timeline.count_rows(torch.tensor([5, 6]))
    timeline.count_rows(torch.tensor([1, 2]))
    assert timeline.rows_computed == 14
