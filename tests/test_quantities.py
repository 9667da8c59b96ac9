"""Units are read as they are written, and what cannot be read is refused with examples."""

import pytest

from mixtralkit.quantities import above_zero, bandwidth, byte_count, compute_rate, fraction


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("0", 0),
        ("1000000", 1_000_000),
        ("2GiB", 2 * 1024**3),
        ("2 gib", 2 * 1024**3),
        ("500MB", 500_000_000),
        ("1.5kB", 1500),
        ("1e9", 1_000_000_000),
        ("3B", 3),
        (".5TB", 500_000_000_000),
    ],
)
def test_bytes(typed: str, value: int) -> None:
    assert byte_count(typed) == value


@pytest.mark.parametrize("typed", ["", "GiB", "-1GB", "2G", "2 bits", "1e999", "nan", "1,5GB", "2GiB/s"])
def test_what_is_no_number_of_bytes(typed: str) -> None:
    with pytest.raises(ValueError, match="such as 2GiB, 500MB or 1000000"):
        byte_count(typed)


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("1.25GB/s", 1.25e9),
        ("1.25 GBps", 1.25e9),
        ("10Gbit/s", 1.25e9),
        ("10Gb/s", 1.25e9),
        ("10Gbps", 1.25e9),
        ("100Mbit/s", 12.5e6),
        ("1GiB/s", 1024.0**3),
        ("8bit/s", 1.0),
        ("50kB/s", 5e4),
        # Plain numbers as in FasterMoE's documentation (GB/s) and as in its code and its users' scripts (bytes/s).
        ("22.46", 22.46e9),
        ("99999", 99999e9),
        ("100000", 1e5),
        ("8e9", 8e9),
        ("6.25E9", 6.25e9),
    ],
)
def test_bandwidths(typed: str, value: float) -> None:
    assert bandwidth(typed) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("typed", ["", "0", "-1", "fast", "10gb/s", "10GB", "1 GB/h", "inf", "0GB/s", "1e400"])
def test_what_is_no_bandwidth(typed: str) -> None:
    """10gb/s could be bits or bytes, which is a factor of eight."""
    with pytest.raises(ValueError, match="such as 1.25GB/s, 10Gbit/s"):
        bandwidth(typed)


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("11.5TFLOPS", 11.5e12),
        ("11.5 TFLOP/s", 11.5e12),
        ("166gflops", 166e9),
        ("1PFLOPS", 1e15),
        ("5FLOP/s", 5.0),
        ("11.5", 11.5e12),
        ("999999", 999999e12),
        ("1000000", 1e6),
        ("13e12", 13e12),
    ],
)
def test_compute_rates(typed: str, value: float) -> None:
    assert compute_rate(typed) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("typed", ["", "0", "-1TFLOPS", "11.5T", "11.5TFLOP", "nan"])
def test_what_is_no_compute_rate(typed: str) -> None:
    with pytest.raises(ValueError, match="such as 11.5TFLOPS, 166GFLOPS"):
        compute_rate(typed)


@pytest.mark.parametrize("typed", ["50kB/s", "1.25GB/s", "10Gbit/s", "0.1", "8e9"])
def test_a_bandwidth_reads_back(typed: str) -> None:
    """Ranks that --nproc starts are told it as text, where a small one without its unit would be taken for GB/s."""
    assert bandwidth(str(bandwidth(typed))) == bandwidth(typed)


@pytest.mark.parametrize("typed", ["1kFLOPS", "11.5", "0.3GFLOPS"])
def test_a_compute_rate_reads_back(typed: str) -> None:
    assert compute_rate(str(compute_rate(typed))) == compute_rate(typed)


def test_plain_numbers_in_their_ranges() -> None:
    assert [above_zero("3.5"), above_zero("1e-9")] == [3.5, 1e-9]
    assert [fraction("0"), fraction("1"), fraction("0.14")] == [0.0, 1.0, 0.14]


@pytest.mark.parametrize("typed", ["", "x", "0", "-1", "inf", "nan", "3,5"])
def test_what_is_not_above_zero(typed: str) -> None:
    with pytest.raises(ValueError, match="a number above 0 is needed"):
        above_zero(typed)


@pytest.mark.parametrize("typed", ["", "x", "-0.1", "1.001", "14%", "nan"])
def test_what_is_no_fraction(typed: str) -> None:
    with pytest.raises(ValueError, match="a fraction from 0 to 1 is needed"):
        fraction(typed)
