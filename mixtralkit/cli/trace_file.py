"""`--trace`: what all ranks did, on one clock, as a file for chrome://tracing or ui.perfetto.dev."""

import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mixtralkit import __version__
from mixtralkit.dist.clock_offsets import ClockOffset, clock_offsets
from mixtralkit.errors import UsageError
from mixtralkit.log import get_logger, notice
from mixtralkit.moe.trace import events_of, names_of, rows_of
from mixtralkit.session.session import Session

AT_A_TIME = 20_000  # spans of each rank that are on the way at once

_logger = get_logger(__name__)


def write_trace(session: Session, file: Path) -> None:
    """Rank 0 writes the spans of all ranks so far; all ranks call it together.

    Raises `UsageError` when the file cannot be written.
    """
    group, timeline = session.group, session.spread.timeline
    offsets = clock_offsets(group.control, group.topology)
    facts = {
        "host": socket.gethostname(),
        "spans": len(timeline.spans),
        "left_out": timeline.left_out,
        "first": min((span.begin for span in timeline.spans), default=None),
    }
    ranks = group.control.all_gather_json(facts)
    firsts = [
        rank["first"] - offset.seconds for rank, offset in zip(ranks, offsets, strict=True) if rank["first"] is not None
    ]
    origin = min(firsts, default=0.0) + offsets[group.rank].seconds
    if group.rank == 0:
        with _whole_file(file) as out:
            _write(session, origin, ranks, offsets, out)
        _tell_of_cuts(ranks)
    else:
        for _ in _blocks(session, origin, ranks):
            pass


def _write(
    session: Session, origin: float, ranks: Sequence[dict[str, Any]], offsets: Sequence[ClockOffset], out: IO[str]
) -> None:
    """An event a line, as they come: a long run's are not to be held twice."""
    about = {
        "mixtralkit": __version__,
        "clock": "rank 0's; the others' were compared with it at the end of the run",
        "clock_offsets_of_ranks_in_seconds": [offset.seconds for offset in offsets],
        "clock_errors_of_ranks_in_seconds": [offset.error for offset in offsets],
        "spans_left_out_of_ranks": [rank["left_out"] for rank in ranks],
    }
    out.write(f'{{"displayTimeUnit": "ms",\n"otherData": {json.dumps(about)},\n"traceEvents": [\n')
    names = [event for rank, facts in enumerate(ranks) for event in names_of(rank, facts["host"])]
    out.write(",\n".join(map(json.dumps, names)))
    for told in _blocks(session, origin, ranks):
        for rank, rows in enumerate(told):
            out.writelines(f",\n{json.dumps(event)}" for event in events_of(rank, rows))
    out.write("\n]}\n")


def _blocks(session: Session, origin: float, ranks: Sequence[dict[str, Any]]) -> Iterator[list[Any]]:
    """The spans of all ranks, so many at a time."""
    spans = session.spread.timeline.spans
    for begin in range(0, max(rank["spans"] for rank in ranks), AT_A_TIME):
        yield session.group.control.all_gather_json(rows_of(spans[begin : begin + AT_A_TIME], origin))


@contextmanager
def _whole_file(file: Path) -> Iterator[IO[str]]:
    """`file` to be written: all of it or nothing."""
    partial = file.with_name(file.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as out:
            yield out
        os.replace(partial, file)
    except OSError as error:
        raise UsageError(f"the trace {file} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _tell_of_cuts(ranks: Sequence[dict[str, Any]]) -> None:
    left_out = sum(rank["left_out"] for rank in ranks)
    if left_out:
        kept = sum(rank["spans"] for rank in ranks)
        notice(_logger, f"the trace has the first {kept:,} spans of the run; the last {left_out:,} are left out")
