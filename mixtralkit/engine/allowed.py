"""What the values of a request may be: small tests, each of any value at all."""

import math
import reprlib
import sys
from collections.abc import Callable
from typing import Any

from mixtralkit.errors import RequestError

Test = Callable[[Any], bool]


def check(name: str, value: object, good: bool, allowed: str) -> None:
    """Raise `RequestError` unless the value of `name` is `good`; `allowed` says what would be."""
    if not good:
        raise RequestError(f"{name} is {reprlib.repr(value)}; it must be {allowed}")


def whole(low: float, high: float = math.inf) -> Test:
    """An int in the range; True and False are none."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def number(low: float, high: float) -> Test:
    """A finite number in the range; NaN is in none."""
    high = min(high, sys.float_info.max)
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def above_0(high: float) -> Test:
    """A finite number above 0 and at most `high`."""
    return lambda value: number(0, high)(value) and value > 0


def each(good: Test) -> Test:
    """A tuple of such values."""
    return lambda values: isinstance(values, tuple) and all(good(value) for value in values)


def count_or_none(value: Any) -> bool:
    """How many of something, or None."""
    return value is None or whole(0)(value)


def text(value: Any) -> bool:
    """A string that is not empty."""
    return isinstance(value, str) and value != ""


def switch(value: Any) -> bool:
    """True or False."""
    return isinstance(value, bool)


def bias(pair: Any) -> bool:
    """A token id and a number from -100 to 100."""
    return isinstance(pair, tuple) and len(pair) == 2 and whole(0)(pair[0]) and number(-100, 100)(pair[1])


def utf8(value: Any, longest: int) -> bool:
    """A string that UTF-8 can express in at most `longest` bytes."""
    try:
        return isinstance(value, str) and len(value.encode()) <= longest
    except UnicodeEncodeError:
        return False
