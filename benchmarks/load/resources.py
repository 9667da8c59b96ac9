"""What the server's processes hold, from /proc, once a second; and whether that grows."""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
SETTLED = 1 / 3  # of the time, until which buffers and caches still find their size


@dataclass(frozen=True)
class Held:
    """What a process holds, `at` so many seconds after the beginning."""

    at: float
    resident_bytes: int
    threads: int
    files: int


def held_by(pid: int, began: float) -> Held:
    """Now. Raises `OSError` when the process has gone."""
    folder = Path(f"/proc/{pid}")
    resident = int((folder / "statm").read_text().split()[1]) * PAGE_BYTES
    return Held(
        at=time.monotonic() - began,
        resident_bytes=resident,
        threads=len(os.listdir(folder / "task")),
        files=len(os.listdir(folder / "fd")),
    )


class Watch:
    """Looks at processes every `interval` seconds while `run` runs; `series` has what it saw, by process."""

    def __init__(self, pids: Sequence[int], interval: float = 1.0) -> None:
        self._began = time.monotonic()
        self._interval = interval
        self.series: dict[int, list[Held]] = {pid: [] for pid in pids}

    def look(self) -> None:
        """Once."""
        for pid, series in self.series.items():
            series.append(held_by(pid, self._began))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(self._interval)


@dataclass(frozen=True)
class Growth:
    """Of one process. From `SETTLED` of the time on: resident bytes at the beginning and at the end of a straight line
    through them. `more_threads` and `more_files` are those at the end beyond those at the beginning, both at rest.
    """

    seconds: float
    first_bytes: float
    last_bytes: float
    peak_bytes: int
    more_threads: int
    more_files: int

    @property
    def bytes_per_second(self) -> float:
        """The slope."""
        return (self.last_bytes - self.first_bytes) / self.seconds


def growth_of(series: Sequence[Held]) -> Growth:
    """The growth in a series that begins and ends at rest."""
    begin = series[0].at + SETTLED * (series[-1].at - series[0].at)
    late = [held for held in series if held.at >= begin]
    times, sizes = [held.at for held in late], [float(held.resident_bytes) for held in late]
    slope, middle, mean = _slope(times, sizes), fmean(times), fmean(sizes)
    return Growth(
        seconds=times[-1] - times[0],
        first_bytes=mean + slope * (times[0] - middle),
        last_bytes=mean + slope * (times[-1] - middle),
        peak_bytes=max(held.resident_bytes for held in series),
        more_threads=series[-1].threads - series[0].threads,
        more_files=series[-1].files - series[0].files,
    )


def _slope(times: Sequence[float], sizes: Sequence[float]) -> float:
    """By least squares."""
    middle, mean = fmean(times), fmean(sizes)
    products = [(at - middle) * (size - mean) for at, size in zip(times, sizes, strict=True)]
    return sum(products) / sum((at - middle) ** 2 for at in times)
