"""Which steps of a trace are held against those without a transfer, and by how much they differ: by hand."""

from typing import Any

import pytest

from benchmarks.transfer_cost import arguments, decode_steps, ratios, steps_during


def event(rank: int, name: str, begin: float, duration: float, category: str = "steps") -> dict[str, Any]:
    return {"pid": rank, "name": name, "ts": begin, "dur": duration, "cat": category}


STEPS = [event(0, f"decode step {number + 1}", 10.0 * number, 9.0) for number in range(6)]
EVENTS = [
    {"ph": "M", "pid": 0, "name": "process_name"},
    event(0, "prefill step 1", -50.0, 40.0),
    *STEPS,
    event(1, "decode step 1", 12.0, 5.0),
    event(0, "fetch 2", 8.0, 33.0, "replicas"),
    event(0, "fetch 1", 50.0, 9.5, "replicas"),
]


def test_steps_count_that_lie_within_the_first_transfer() -> None:
    """From 8 to 41: the second, third and fourth step; neither those at its ends nor the second transfer's."""
    assert decode_steps(EVENTS, 0)[1] == (10.0, 9.0)
    assert steps_during(EVENTS, 0) == [1, 2, 3]
    with pytest.raises(RuntimeError, match="no replica was fetched"):
        steps_during(STEPS, 0)


def test_the_middle_and_the_slowest_tenth() -> None:
    without = [float(number) for number in range(1, 20)]
    doubled_at_the_end = [*without[:-2], 36.0, 38.0]
    assert ratios(without, without) == {"median": 1.0, "slowest tenth": 1.0}
    assert ratios(doubled_at_the_end, without) == {"median": 1.0, "slowest tenth": 2.0}


def test_the_command_line_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--rounds", "0"], ["--link", "fast"]):
        with pytest.raises(SystemExit):
            arguments(words)
        assert words[1] in capsys.readouterr().err
