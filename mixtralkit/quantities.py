"""From the text of a flag or a variable to bytes, rates, fractions and the like. Units are read as they are written.

Each function but `finite` raises `ValueError` saying what is allowed. What it returns reads back from its own `str()`.
"""

import math
import re

_NUMBER = r"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?)"
_BYTES = re.compile(rf"{_NUMBER}\s*(?:(?P<prefix>[kmgt]i?)?b)?", re.IGNORECASE)
# Case tells bytes (B) from bits (b), which are a factor of eight apart: here it counts, but for k and the exponent.
_BANDWIDTH = re.compile(rf"(?i:{_NUMBER})\s*(?:(?P<prefix>[kKMGT]i?)?(?P<base>B|bit|b)(?:/s|ps))?")
_COMPUTE = re.compile(rf"{_NUMBER}\s*(?:(?P<prefix>[kmgtp])?(?P<base>flops|flop/s))?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}

# FasterMoE documents its network bandwidth in GB/s and computes with bytes/s, so both are in use. No network has
# 100,000 GB/s, and none that could carry experts has less than 100,000 bytes/s.
LARGEST_GB_PER_SECOND = 1e5
# Likewise for those who write 11.5 for 11.5e12: nothing that runs a model computes with less than a million FLOP/s.
LARGEST_TFLOP_PER_SECOND = 1e6


class Bandwidth(float):
    """Bytes a second."""

    def __str__(self) -> str:
        return f"{float(self)!r}B/s"


class ComputeRate(float):
    """FLOP a second."""

    def __str__(self) -> str:
        return f"{float(self)!r}FLOP/s"


def byte_count(typed: str) -> int:
    """A number of bytes: 2GiB, 500MB, or without a unit."""
    match = _BYTES.fullmatch(typed.strip())
    value = math.nan if match is None else float(match["number"]) * _factor(match["prefix"])
    if not math.isfinite(value):
        raise ValueError("a number of bytes is needed, such as 2GiB, 500MB or 1000000")
    return int(value)


def bandwidth(typed: str) -> Bandwidth:
    """Bytes a second: 1.25GB/s, 500MB/s, 10Gbit/s. Without a unit GB/s below 100,000, and from there on bytes/s."""
    match = _BANDWIDTH.fullmatch(typed.strip())
    value = math.nan if match is None else float(match["number"])
    if match is not None and match["base"] is None:
        value *= 1e9 if value < LARGEST_GB_PER_SECOND else 1.0
    elif match is not None:
        value *= _factor(match["prefix"]) / (1 if match["base"] == "B" else 8)
    if not (math.isfinite(value) and value > 0):
        raise ValueError("a bandwidth above 0 is needed, such as 1.25GB/s, 10Gbit/s or, in bytes/s, 1.25e9")
    return Bandwidth(value)


def compute_rate(typed: str) -> ComputeRate:
    """FLOP a second: 11.5TFLOPS, 166GFLOP/s. Without a unit below 1,000,000 they are TFLOP/s, from there on FLOP/s."""
    match = _COMPUTE.fullmatch(typed.strip())
    value = math.nan if match is None else float(match["number"])
    if match is not None and match["base"] is None:
        value *= 1e12 if value < LARGEST_TFLOP_PER_SECOND else 1.0
    elif match is not None:
        value *= _factor(match["prefix"])
    if not (math.isfinite(value) and value > 0):
        raise ValueError("a rate above 0 is needed, such as 11.5TFLOPS, 166GFLOPS or, in FLOP/s, 11.5e12")
    return ComputeRate(value)


def above_zero(typed: str) -> float:
    """A finite number above 0."""
    value = finite(typed)
    if not value > 0:
        raise ValueError("a number above 0 is needed")
    return value


def fraction(typed: str) -> float:
    """A number from 0 to 1."""
    value = finite(typed)
    if not 0 <= value <= 1:
        raise ValueError("a fraction from 0 to 1 is needed")
    return value


def finite(typed: str) -> float:
    """The finite number that `typed` is; NaN, and no error, where it is none."""
    try:
        value = float(typed)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _factor(prefix: str | None) -> int:
    """What a prefix such as G or Gi multiplies by."""
    letter = (prefix or "").lower()
    base = 1024 if letter.endswith("i") else 1000
    return int(base ** _POWERS[letter.removesuffix("i")])
