"""JSON of an answer that may be megabytes, written piece by piece: in one piece everybody else would have to wait."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

SLICE = 256  # elements of a list that are written at a time
_DEPTH = 4  # of the lists of log probabilities: document, choices, choice, logprobs


async def long_json(document: dict[str, Any]) -> bytes:
    """The document as JSON; between two pieces of a long one others get a turn."""
    if not _is_long(document):
        return _written(document).encode()
    written = []
    for piece in _pieces(document):
        written.append(piece)
        await asyncio.sleep(0)
    return "".join(written).encode()


def _is_long(value: Any, depth: int = 0) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return len(value) > SLICE or (depth < _DEPTH and any(_is_long(part, depth + 1) for part in inner))


def _pieces(value: Any, depth: int = 0) -> Iterator[str]:
    if not _is_long(value, depth):
        yield _written(value)
    elif isinstance(value, dict):
        for place, (name, part) in enumerate(value.items()):
            yield f"{',' if place else '{'}{_written(name)}:"
            yield from _pieces(part, depth + 1)
        yield "}"
    elif depth < _DEPTH and isinstance(value[0], dict | list):
        for place, part in enumerate(value):
            yield "," if place else "["
            yield from _pieces(part, depth + 1)
        yield "]"
    else:
        for begin in range(0, len(value), SLICE):
            yield ("," if begin else "[") + _written(value[begin : begin + SLICE])[1:-1]
        yield "]"


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
