"""What the benchmarks of the strategies read from their command lines; the parsers are argparse's types."""

import argparse
from collections.abc import Callable, Collection

from tests.netns import bits_per_second


def each(parse: Callable[[str], object]) -> Callable[[str], tuple[object, ...]]:
    """Several values with commas between them."""
    return lambda text: tuple(parse(part.strip()) for part in text.split(","))


def some_of(names: Collection[str]) -> Callable[[str], tuple[object, ...]]:
    """Some of `names`, with commas between them."""

    def known(name: str) -> str:
        if name not in names:
            raise argparse.ArgumentTypeError(f"there is no {name!r}; choose of {', '.join(names)}")
        return name

    return each(known)


def count(text: str) -> int:
    """A number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 1")
    return int(text)


def rate(text: str) -> str:
    """The rate of a link, as tc writes it."""
    try:
        bits_per_second(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text
