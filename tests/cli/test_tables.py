"""How numbers, lists and tables are shown."""

import pytest

from mixtralkit.cli.tables import spans, table
from mixtralkit.sizes import counted, rate, seconds, size


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (93_400_000_000, "93.4 GB"),
        (999_600, "1 MB"),
        (2 * 10**15, "2e+03 TB"),
    ],
)
def test_sizes(nbytes: int, text: str) -> None:
    assert size(nbytes) == text


def test_durations_rates_and_counts() -> None:
    assert [seconds(0.0123), seconds(3.44), seconds(125)] == ["12 ms", "3.4 s", "2 min 5 s"]
    assert [rate(12.34), rate(1234.5)] == ["12.3", "1,234"]
    assert [counted(1, "rank"), counted(1200, "token")] == ["1 rank", "1,200 tokens"]


def test_numbers_in_short() -> None:
    assert [spans([0, 1, 2, 3]), spans([0, 2, 3, 7]), spans([])] == ["0-3", "0, 2-3, 7", "none"]


def test_numbers_stand_to_the_right_of_their_column() -> None:
    assert table([["rank", "host"], ["0", "alpha"], ["10", "b"]]) == ["rank  host", "   0  alpha", "  10  b"]
