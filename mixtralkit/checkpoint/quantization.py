"""Quantized checkpoints: what params.json says of them, and what their tensors are called.

A matrix `NAME.weight` is kept as `NAME.codes`, `NAME.scales` and, in int4, `NAME.mins`, in the layouts of
ops/quantized_weight.py; everything else is as Mistral has it. docs/checkpoints.md tells the same to other readers.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mixtralkit.errors import CheckpointError, ConfigError
from mixtralkit.model.quantized_linear import is_quantized
from mixtralkit.ops.quantized_weight import GROUP, QuantKind, part_shapes

LAYOUT = 1
_WEIGHT = "weight"
_DTYPES = {kind: {part: dtype for part, (dtype, _) in part_shapes(1, GROUP, kind).items()} for kind in QuantKind}


def quantization_section(kind: QuantKind) -> dict[str, Any]:
    """The section of params.json that says how the weights are quantized."""
    group = {} if kind is QuantKind.FP8 else {"group": GROUP}
    return {"kind": kind.value, **group, "layout": LAYOUT}


def read_quantization(folder: Path, form: str, *, needed: bool) -> QuantKind | None:
    """How the checkpoint in `folder` is quantized, by its params.json; None when that says nothing of it.

    `form` is what the files are, and `needed` whether such files are quantized. Raises `CheckpointError` when
    params.json does not agree, and `ConfigError` when it says what this version does not know.
    """
    path = folder / "params.json"
    section = json.loads(path.read_text(encoding="utf-8")).get("quantization") if path.is_file() else None
    if section is None:
        if needed:
            raise CheckpointError(
                f"{path} has no 'quantization' section, which {form} files need; take the params.json that 'mixtralkit "
                "convert' wrote with them"
            )
        return None
    kind = _parse(path, section)
    if not needed:
        raise CheckpointError(
            f"{path} says that the weights are quantized to {kind.value}, but the files are {form}; put each "
            "checkpoint into a folder of its own"
        )
    return kind


def _parse(path: Path, section: object) -> QuantKind:
    for kind in QuantKind:
        if section == quantization_section(kind):
            return kind
    known = " or ".join(json.dumps(quantization_section(kind)) for kind in QuantKind)
    raise ConfigError(f"{path}: 'quantization' is {json.dumps(section)}; this version reads {known}")


def quantized_shapes(shapes: Mapping[str, tuple[int, ...]], kind: QuantKind) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a quantized checkpoint, from the canonical ones, in the same order."""
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        if is_quantized(name, shape):
            outputs, inputs = shape
            parts = part_shapes(outputs, inputs, kind)
            found |= {name.removesuffix(_WEIGHT) + part: part_shape for part, (_, part_shape) in parts.items()}
        else:
            found[name] = shape
    return found


def split_name(name: str) -> tuple[str, str]:
    """The canonical name of the matrix that tensor `name` is a part of, and which part."""
    owner, _, part = name.rpartition(".")
    return f"{owner}.{_WEIGHT}", part


def part_dtype(name: str, kind: QuantKind | None) -> torch.dtype | None:
    """The dtype of tensor `name` if it is a part of a matrix quantized to `kind`, None for any other."""
    return None if kind is None else _DTYPES[kind].get(name.rpartition(".")[2])
