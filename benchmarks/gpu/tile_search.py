"""Which tiles are tried in place of the present ones, which of them are best, and how tiles.json is written."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import prod
from statistics import fmean
from typing import Any

from mixtralkit.ops.triton.tile_table import FIELDS, Choice

Numbers = Mapping[str, int]

RUNGS: dict[str, tuple[int, ...]] = {
    "rows": (16, 32, 64, 128),
    "outputs": (16, 32, 64, 128, 256),
    "inputs": (64, 128, 256, 512),
    "warps": (1, 2, 4, 8, 16),
    "stages": (1, 2, 3, 4, 5, 6, 8),
    "step": (16, 32, 64, 128),
    "positions": (128, 256, 512, 1024),
    "block": (1024, 2048, 4096, 8192, 16_384),
    "block_a_warp": (64, 128, 256, 512, 1024),
}
GROUPED_ROWS = (32, 64, 128, 256, 512, 1024, 2048)
# Shared memory of a program. The entries of sm_80 serve GPUs that have less of it (8.6, 8.9, 12.x).
MEMORY = {80: 101_376, 90: 232_448, 100: 232_448}
SUMS = 128  # float32 numbers of a thread that stay in registers: half of those that it can have
GAIN = 0.02  # a candidate has to be faster by so much: less is chance
_BYTES = {"dense": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5, "float32": 4.0}  # of a weight; as rows of float32 have


@dataclass(frozen=True)
class Trial:
    """What came of some numbers: milliseconds of each call, or `why_not` they are no choice."""

    numbers: Numbers
    times: tuple[float, ...] = ()
    why_not: str = ""


def candidates(arch: int, name: str, entries: Mapping[str, Choice]) -> list[Numbers]:
    """What to try in place of entry `name`: one number or two a rung higher or lower, the nearest first."""
    present = entries[name].numbers
    found = (numbers for numbers in _neighbours(name, present) if fits(arch, name, numbers, entries))
    return list(found)


def _neighbours(name: str, present: Numbers) -> Iterator[Numbers]:
    fields = FIELDS[name.partition("/")[0]]
    moves = {field: _moves(name, field, present[field]) for field in fields}
    for number in (1, 2):
        for moved in combinations(fields, number):
            for values in product(*(moves[field] for field in moved)):
                yield {**present, **dict(zip(moved, values, strict=True))}


def _moves(name: str, field: str, value: int) -> list[int]:
    """The rungs beside a value, which itself may be between two; all others for the rows of "grouped"."""
    if name == "grouped":
        return [rung for rung in GROUPED_ROWS if rung != value]
    rungs = RUNGS[field]
    return [*[rung for rung in rungs if rung < value][-1:], *[rung for rung in rungs if rung > value][:1]]


def fits(arch: int, name: str, numbers: Numbers, entries: Mapping[str, Choice]) -> bool:
    """Whether the kernel can be compiled with such numbers without spills, as far as arithmetic can tell."""
    kernel = name.partition("/")[0]
    if kernel == "sample":
        return 1 <= numbers["block"] // numbers["block_a_warp"] <= 32
    if kernel == "split":
        steps = [choice.numbers["step"] for choice in entries.values() if "step" in choice.numbers]
        return all(numbers["positions"] % step == 0 for step in steps)
    if "step" in numbers:
        return entries["split"].numbers["positions"] % numbers["step"] == 0
    return kernel == "grouped" or _product_fits(arch, name, numbers)


def _product_fits(arch: int, name: str, numbers: Numbers) -> bool:
    kernel, weights, _ = name.split("/")
    matrices = 2 if kernel == "up" else 1
    of_rows = numbers["rows"] * (4 if weights == "float32" else 2)
    of_weights = numbers["outputs"] * matrices * _BYTES[weights]
    memory = (numbers["stages"] - 1) * numbers["inputs"] * (of_rows + of_weights)
    sums = prod(numbers[field] for field in ("rows", "outputs")) * matrices / (32 * numbers["warps"])
    return memory <= MEMORY[arch] and sums <= SUMS


def best(trials: Sequence[Trial]) -> Trial:
    """The one with the least time, over all calls alike; the first, which is the present choice, unless that gains."""
    present = trials[0]
    measured = [trial for trial in trials if not trial.why_not]
    found = min(measured, key=lambda trial: relative(trial, present), default=present)
    return found if relative(found, present) <= 1 - GAIN else present


def relative(trial: Trial, present: Trial) -> float:
    """The mean of a trial's times as parts of the present choice's."""
    return fmean(time / before for time, before in zip(trial.times, present.times, strict=True))


def rewritten(text: str, arch: int, name: str, choice: Choice) -> str:
    """The text of tiles.json with another choice for one entry."""
    document = json.loads(text)
    document[f"sm_{arch}"][name] = {**choice.numbers, "from": choice.source}
    return dumped(document)


def dumped(document: Mapping[str, Any]) -> str:
    """As the file is laid out: an entry a line."""
    parts = [f" {json.dumps(name)}: {_dumped_part(part)}" for name, part in document.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _dumped_part(part: Sequence[str] | Mapping[str, Any]) -> str:
    if isinstance(part, Mapping):
        return "{\n" + ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in part.items()) + "\n }"
    return "[\n" + ",\n".join(f"  {json.dumps(line)}" for line in part) + "\n ]"
