"""Errors of predictions, added up by hand."""

import pytest

from benchmarks.prediction_error import Errors, arguments, errors_of, price_of_choice, section, summary


def row(parts: int, predicted: float, measured: float | None) -> dict[str, object]:
    error = None if measured is None else predicted / measured - 1
    return {
        "placement": "even",
        "dispatch": "collective",
        "parts": parts,
        "predicted_seconds": predicted,
        "measured_seconds": measured,
        "error": error,
        "chosen": parts == 1,
    }


ROWS = [row(1, 1.0, 2.0), row(2, 0.9, 0.6), row(3, 0.6, 0.8), row(4, 0.1, None)]


def test_errors_are_shares_of_what_was_measured() -> None:
    """-50 %, +50 % and -25 %; what was not measured does not count."""
    assert errors_of(ROWS[:1]) == Errors(1, 0.5, -0.5)
    errors = errors_of(ROWS[1:])
    assert errors is not None
    assert (errors.count, errors.median, errors.worst) == pytest.approx((2, 0.375, 0.5))
    assert errors_of(ROWS[3:]) is None


def test_the_price_of_going_by_predictions() -> None:
    """Three parts are predicted to be fastest of those measured and take 0.8 s; two take 0.6."""
    assert price_of_choice(ROWS) == pytest.approx(0.8 / 0.6)
    assert price_of_choice(ROWS[3:]) is None


def test_what_is_printed() -> None:
    explained = {
        "rates": {"collectives": {"node_bandwidth": 1e9, "network_bandwidth": None, "given": {}}},
        "steps": {"decode": {"tokens_of_ranks": [1, 1], "alternatives": ROWS}},
    }
    lines = section("demo, one host", explained)
    assert "collectives: node_bandwidth 1e+09" in lines
    assert "| even | collective | 2 | 900.000 | 600.000 | +50% |" in lines
    *_, one, everything = summary([("demo, one host", explained)])
    assert one == "| demo, one host | decode | 1, 50%, -50% | 2, 38%, +50% | 1.33 |"
    assert everything == "| all | | 1, 50%, -50% | 2, 38%, +50% | |"


def test_the_command_line_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert arguments(["--links", "none,1gbit"]).links == ("none", "1gbit")
    for words, said in (
        (["--subjects", "demos"], "there is no 'demos'; choose of zipf, demo"),
        (["--links", "none,fast"], "fast"),
        (["--max-tokens", "0"], "'0' is no number of at least 1"),
    ):
        with pytest.raises(SystemExit):
            arguments(words)
        assert said in capsys.readouterr().err
