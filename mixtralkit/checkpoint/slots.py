"""Where a GPU's dense matrices go that are multiplied together: side by side, so that one product takes them all.

The queries', keys' and values' matrices of a layer are one after the other; so are the matrices of its experts, w1, w3,
w2 of each. Names, shapes and values of the parameters are what they were. ops/stacks sees them as one tensor.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import accumulate

import torch
from torch import nn

from mixtralkit.ops.matrices import ALIGNMENT

_QKV = re.compile(r"(.*attention)\.w([qkv])\.weight")
_EXPERT = re.compile(r"(.*experts)\.(\d+)\.w([123])\.weight")


class Slots:
    """One piece of memory for each group of matrices of `model`, taken when the first of them comes."""

    def __init__(self, model: nn.Module, prefix: str = "") -> None:
        shapes = {prefix + name: parameter.shape for name, parameter in model.named_parameters()}
        self._groups = {name: group for group in groups(shapes) for name in group}
        self._shapes: Mapping[str, torch.Size] = shapes
        self._places: dict[str, torch.Tensor] = {}

    def place(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """`tensor` with the contents of parameter `name` in its slot; itself where it has none, and on a CPU.

        All of a group must be of one dtype and device.
        """
        if name not in self._groups or not _is_placed(tensor):
            return tensor
        if name not in self._places:
            self._take(self._groups[name], tensor)
        return self._places.pop(name).copy_(tensor)

    def _take(self, group: list[str], like: torch.Tensor) -> None:
        sizes = [self._shapes[name].numel() for name in group]
        if any(size * like.itemsize % ALIGNMENT for size in sizes):
            self._places |= {name: like.new_empty(self._shapes[name]) for name in group}
            return
        memory, begins = like.new_empty(sum(sizes)), [0, *accumulate(sizes)]
        for name, begin, size in zip(group, begins, sizes, strict=False):
            self._places[name] = memory[begin : begin + size].view(self._shapes[name])


def _is_placed(tensor: torch.Tensor) -> bool:
    return tensor.device.type != "cpu"


def groups(names: Iterable[str]) -> list[list[str]]:
    """The parameters that lie side by side, in their order in memory."""
    found: dict[str, list[tuple[int, int, str]]] = {}
    for name in names:
        if match := _QKV.fullmatch(name):
            found.setdefault(match[1], []).append((0, "qkv".index(match[2]), name))
        elif match := _EXPERT.fullmatch(name):
            found.setdefault(match[1], []).append((int(match[2]), "132".index(match[3]), name))
    return [[name for _, _, name in sorted(group)] for group in found.values()]
