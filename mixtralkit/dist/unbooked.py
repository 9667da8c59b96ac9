"""Exchanges that the report is not to count."""

from collections.abc import Iterator
from contextlib import contextmanager

from mixtralkit.dist.collectives import Collectives


@contextmanager
def unbooked(*exchanges: Collectives) -> Iterator[None]:
    """What is sent in the block is not in the bytes that these have sent: the report tells what the run took."""
    before = [(each, each.bytes_sent, list(each.bytes_to)) for each in exchanges]
    try:
        yield
    finally:
        for each, sent, sent_to in before:
            each.bytes_sent, each.bytes_to = sent, sent_to
