"""How fast a checkpoint's bytes come to a GPU, beside how fast the file can be read and page-locked memory copied.

    python -m benchmarks.gpu.loading [FOLDER]

One layer of Mixtral 8x7B with random weights and its embeddings, 3.4 GB, written to FOLDER first. Without a GPU it
measures the reading alone. Each figure is the best of three, in GB of the file a second.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.gpu.section import tell
from mixtralkit.bench.random_weights import random_model
from mixtralkit.bench.shapes import shape_of
from mixtralkit.checkpoint.formats import Form, detect
from mixtralkit.checkpoint.loader import load_model
from mixtralkit.checkpoint.quantizing import open_weights
from mixtralkit.checkpoint.staging import BUFFER_BYTES, Staging
from mixtralkit.checkpoint.writer import write_checkpoint
from mixtralkit.config import ModelConfig
from mixtralkit.ops.quantized_weight import QuantKind

TIMES = 3
CPU = torch.device("cpu")


class Rates(NamedTuple):
    """GB a second of a file that is in the page cache, and of one that is read from the disk."""

    cached: float
    disk: float


def measured(device: torch.device, config: ModelConfig, parent: Path | None = None) -> dict[str, Rates]:
    """GB a second by what is done, with the file in the page cache and not; on the CPU those of reading alone.

    The file is written into `parent`, by default where temporary files go, and removed.
    """
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        state = random_model(config, dtype=torch.bfloat16, device=CPU).state_dict()
        file = write_checkpoint(state, config, folder, Form.MISTRAL_SAFETENSORS)
        del state
        ways = {**reading_ways(file), **(loading_ways(file, device) if device.type == "cuda" else {})}
        return {name: Rates(*both) for name, *both in zip(ways, *rates(file, ways), strict=True)}


def reading_ways(file: Path) -> dict[str, Callable[[], object]]:
    """Reading without a device: the plainest way, and the loader's own."""
    return {
        "pread, one thread": partial(read_plainly, file),
        "the loader's reading": partial(read_staged, file.parent),
    }


def loading_ways(file: Path, device: torch.device) -> dict[str, Callable[[], object]]:
    """The way to a GPU: its limit, the plainest way, and the loader's, quantizing or not."""
    load = partial(load_model, file.parent, dtype=None, device=device)
    return {
        "page-locked memory to the GPU": partial(copy_locked, file.stat().st_size, device),
        "each tensor read, then copied": partial(load_plainly, file.parent, device),
        "loading": load,
        **{f"loading, quantized to {kind.value}": partial(load, quantize=kind) for kind in QuantKind},
    }


def rates(file: Path, ways: Mapping[str, Callable[[], object]]) -> Iterator[list[float]]:
    """GB a second of each way, first with the file in the page cache, then from the disk.

    They take turns, since what else the machine does changes from minute to minute.
    """
    for cold in (False, True):
        runs = [taken(ways, file, cold=cold) for _ in range(TIMES)]
        yield [file.stat().st_size / 1e9 / min(times) for times in zip(*runs, strict=True)]


def taken(ways: Mapping[str, Callable[[], object]], file: Path, *, cold: bool) -> list[float]:
    """Seconds of each way; with `cold` all of them have to read from the disk."""
    found = []
    for run in ways.values():
        if cold:
            forget(file)
        started = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return found


def forget(file: Path) -> None:
    """Take the file out of the page cache, as far as the system does as it is told."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def read_plainly(file: Path) -> None:
    """What the file system gives: one piece after the other into the same memory."""
    buffer = bytearray(BUFFER_BYTES)
    descriptor = os.open(file, os.O_RDONLY)
    try:
        offset = 0
        while count := os.preadv(descriptor, [buffer], offset):
            offset += count
    finally:
        os.close(descriptor)


def read_staged(folder: Path) -> None:
    """As the loader reads, for a device that takes everything in no time."""
    weights = open_weights(detect(folder))
    stretches = [weights.stretch(name) for name in weights.shapes]
    with Staging(_Nowhere(), stretches) as staging:
        for _ in stretches:
            staging.take()


def copy_locked(nbytes: int, device: torch.device) -> None:
    """As many bytes from one page-locked buffer to one of the device."""
    source = torch.empty(BUFFER_BYTES, dtype=torch.uint8, pin_memory=True)
    target = torch.empty(BUFFER_BYTES, dtype=torch.uint8, device=device)
    for _ in range(-(-nbytes // BUFFER_BYTES)):
        target.copy_(source, non_blocking=True)


def load_plainly(folder: Path, device: torch.device) -> list[torch.Tensor]:
    """What is written first: each tensor in the mapped file is copied to the device, and the next one is looked at."""
    weights = open_weights(detect(folder))
    return [weights.read(name, torch.bfloat16, CPU).to(device) for name in weights.shapes]


class _Done:
    def synchronize(self) -> None:
        """See `Underway`."""


class _Nowhere:
    """A device that copies nothing."""

    def buffer(self, nbytes: int) -> torch.Tensor:
        """See `Uploads`."""
        return torch.empty(nbytes, dtype=torch.uint8)

    def empty(self, nbytes: int) -> torch.Tensor:
        """See `Uploads`."""
        return torch.empty(nbytes, dtype=torch.uint8, device="meta")

    def copy(self, target: torch.Tensor, buffer: torch.Tensor) -> _Done:
        """See `Uploads`."""
        return _Done()

    def hand_over(self, target: torch.Tensor) -> None:
        """See `Uploads`."""

    def close(self) -> None:
        """See `Uploads`."""


def main(words: Sequence[str]) -> None:
    """Measure and tell."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = measured(device, replace(shape_of("8x7b"), num_layers=1), Path(words[0]) if words else None)
    lines = ["| | in the page cache, GB/s | from the disk, GB/s |", "|---|---|---|"]
    lines += [f"| {name} | {each.cached:.2f} | {each.disk:.2f} |" for name, each in found.items()]
    tell("\n".join(lines) + "\n", {name: each._asdict() for name, each in found.items()})


if __name__ == "__main__":
    main(sys.argv[1:])
