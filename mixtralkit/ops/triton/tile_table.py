"""What the kernels are launched with: data, in tiles.json beside this file, which also says what the numbers mean.

Nothing is tuned while a user waits. `python -m benchmarks.gpu.tune` does it, on a GPU, for who asks for it.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

PATH = Path(__file__).with_name("tiles.json")
ARCHITECTURES = (80, 90, 100)
# By the first number of a GPU's capability. Others have the tensor cores of sm_80, those of desktops from 12.0 on too.
_TENSOR_CORES = {9: 90, 10: 100, 11: 100}

_PRODUCT = ("rows", "outputs", "inputs", "warps", "stages")
_ATTENTION = ("rows", "step", "warps", "stages")
FIELDS = {  # of an entry, by the first part of its name
    "up": _PRODUCT,
    "down": _PRODUCT,
    "linear": _PRODUCT,
    "tokens": _ATTENTION,
    "prompts": _ATTENTION,
    "split": ("positions",),
    "sample": ("block", "block_a_warp"),
    "grouped": ("rows",),
}


class Choice(NamedTuple):
    """An entry: its numbers by their names, and where they come from."""

    numbers: Mapping[str, int]
    source: str


Table = dict[int, dict[str, Choice]]  # by architecture and name


@cache
def table() -> Table:
    """The whole of the file, which is read once."""
    return parsed(PATH.read_text(encoding="utf-8"))


def chosen(arch: int, name: str) -> Mapping[str, int]:
    """The numbers of an entry."""
    return table()[arch][name].numbers


@cache
def architecture(device: torch.device) -> int:
    """Which of `ARCHITECTURES` has the entries for a device."""
    if device.type != "cuda":
        return ARCHITECTURES[0]
    return _TENSOR_CORES.get(torch.cuda.get_device_capability(device)[0], ARCHITECTURES[0])


def parsed(text: str) -> Table:
    """The table in the text of such a file; raises `ValueError` that names an entry with other fields."""
    document = json.loads(text)
    return {
        arch: {name: _choice(f"sm_{arch} {name}", entry) for name, entry in document[f"sm_{arch}"].items()}
        for arch in ARCHITECTURES
    }


def _choice(where: str, entry: dict[str, Any]) -> Choice:
    fields = FIELDS[where.split()[1].partition("/")[0]]
    numbers = {name: value for name, value in entry.items() if name != "from"}
    are_numbers = all(type(value) is int and value > 0 for value in numbers.values())
    if tuple(numbers) != fields or not are_numbers or not isinstance(entry.get("from"), str):
        raise ValueError(f"{PATH.name}: {where} is {entry}, and has to have numbers {', '.join(fields)}, and 'from'")
    return Choice(numbers, entry["from"])
