"""From what was typed to a value. Each function takes the text and raises `ValueError` saying what is allowed."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mixtralkit.cli.near_miss import near_miss

T = TypeVar("T")

SWITCHED = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def text(typed: str) -> str:
    """The text itself, whatever it looks like."""
    return typed


def path(typed: str) -> Path:
    """A file or folder; whether it is there is seen when it is used."""
    if not typed or "\0" in typed:
        raise ValueError("the name of a file or folder is needed")
    return Path(typed)


def number(typed: str) -> float:
    """A finite number."""
    try:
        value = float(typed)
    except ValueError:
        raise ValueError("a number is needed") from None
    if not math.isfinite(value):
        raise ValueError("a finite number is needed")
    return value


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A parser of whole numbers from `least` to `most`."""
    allowed = f"a whole number {f'of at least {least}' if most is None else f'from {least} to {most}'} is needed"

    def parse(typed: str) -> int:
        try:
            value = int(typed)
        except ValueError:
            raise ValueError(allowed) from None
        if value < least or (most is not None and value > most):
            raise ValueError(allowed)
        return value

    return parse


def one_of(*names: str) -> Callable[[str], str]:
    """A parser of a choice among `names`."""

    def parse(typed: str) -> str:
        if typed not in names:
            raise ValueError(f"choose one of {', '.join(names)}{near_miss(typed, names)}")
        return typed

    return parse


def switch(typed: str) -> bool:
    """On or off."""
    if typed.lower() not in SWITCHED:
        raise ValueError("it is on without a value; =true and =false are allowed too")
    return SWITCHED[typed.lower()]


class Listed(tuple[T, ...]):
    """Several values that are typed, and shown, with commas between them."""

    def __str__(self) -> str:
        return ",".join(map(str, self))


def listed(parse: Callable[[str], T]) -> Callable[[str], Listed[T]]:
    """A parser of one or more values with commas between them, each as `parse` has it and each once."""

    def parse_all(typed: str) -> Listed[T]:
        values = Listed(map(parse, typed.split(",")))
        if len(set(values)) < len(values):
            raise ValueError("each value may be given once")
        return values

    return parse_all
