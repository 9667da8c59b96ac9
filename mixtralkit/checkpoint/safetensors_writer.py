"""Writes a .safetensors file tensor by tensor, so that one tensor at a time is in memory."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from mixtralkit.checkpoint.safetensors_header import DTYPES

ALIGNMENT = 64  # a cache line: where mapped matrices begin; the library itself aligns the first tensor to 8


@dataclass(frozen=True)
class TensorSpec:
    """What a tensor will be."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def write_safetensors(path: Path, specs: Mapping[str, TensorSpec], read: Callable[[str], torch.Tensor]) -> None:
    """Write what `read` gives for each name of `specs` to `path`.

    The format allows no gaps, so tensors of odd sizes come last: all others begin at multiples of `ALIGNMENT`.
    """
    ordered = dict(sorted(specs.items(), key=lambda item: item[1].nbytes % ALIGNMENT != 0))
    header = _header(ordered)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name, spec in ordered.items():
            tensor = read(name)
            if (tensor.dtype, tensor.shape) != (spec.dtype, spec.shape):
                raise AssertionError(f"{name} is {tensor.dtype} {list(tensor.shape)}, {spec} was announced")
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)


def _header(specs: Mapping[str, TensorSpec]) -> bytes:
    """The header, padded with spaces so that the first tensor is aligned."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, spec in specs.items():
        begin, end = end, end + spec.nbytes
        code = next(code for code, known in DTYPES.items() if known == spec.dtype)
        entries[name] = {"dtype": code, "shape": list(spec.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    return text + b" " * (-(8 + len(text)) % ALIGNMENT)
