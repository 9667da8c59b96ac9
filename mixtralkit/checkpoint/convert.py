"""Writes a quantized checkpoint, one matrix at a time."""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch

from mixtralkit.checkpoint.byte_progress import ByteCounter, ByteProgress
from mixtralkit.checkpoint.formats import FILE_NAMES, Form, detect
from mixtralkit.checkpoint.full_disk import full_disk_named, sync
from mixtralkit.checkpoint.quantization import part_dtype, quantization_section
from mixtralkit.checkpoint.quantizing import WeightSource, open_weights
from mixtralkit.checkpoint.safetensors_writer import TensorSpec, write_safetensors
from mixtralkit.config import to_params_json
from mixtralkit.errors import CheckpointError
from mixtralkit.ops.quantized_weight import QuantKind

UNFINISHED = ".converting"


def convert(
    folder: Path | str,
    output: Path | str,
    kind: QuantKind,
    on_progress: Callable[[ByteProgress], None] | None = None,
) -> None:
    """Write the checkpoint in `folder`, quantized, into the new folder `output`, with params.json and the tokenizer.

    `output` appears when it is complete and on the disk; until then its files are in OUTPUT.converting, which an error
    removes. Raises `CheckpointError`, before anything is written, when `output` exists, the checkpoint is quantized
    already or not whole, or the disk is too small.
    """
    output = Path(output)
    unfinished = output.with_name(output.name + UNFINISHED)
    weights = _open(folder, kind)
    specs = {name: TensorSpec(part_dtype(name, kind) or weights.dtype, shape) for name, shape in weights.shapes.items()}
    total = sum(spec.nbytes for spec in specs.values())
    _check_target(output, unfinished, total)
    counter = ByteCounter(total, on_progress)

    def read(name: str) -> torch.Tensor:
        tensor = weights.read(name, weights.dtype, torch.device("cpu"))
        counter.add(name, specs[name].nbytes)
        return tensor

    with (
        full_disk_named(f"all {total:,} bytes of {output} are written; make room and convert again"),
        ExitStack() as stack,
    ):
        unfinished.mkdir()
        stack.callback(shutil.rmtree, unfinished, ignore_errors=True)
        write_safetensors(unfinished / FILE_NAMES[Form.QUANTIZED_SAFETENSORS].single, specs, read)
        _write_rest(unfinished, weights, kind)
        os.rename(unfinished, output)
        sync(output.parent)


def _open(folder: Path | str, kind: QuantKind) -> WeightSource:
    checkpoint = detect(folder)
    if checkpoint.quantization is not None:
        raise CheckpointError(
            f"{folder} is quantized to {checkpoint.quantization.value} already; give the folder of the original weights"
        )
    return open_weights(checkpoint, kind)


def _check_target(output: Path, unfinished: Path, needed: int) -> None:
    if output.exists():
        raise CheckpointError(f"{output} exists already; give the name of a new folder")
    if not output.parent.is_dir():
        raise CheckpointError(f"{output.parent} is not a folder; give one that exists")
    if unfinished.exists():
        raise CheckpointError(
            f"{unfinished} is there: another convert is writing it, or was killed; wait for it, or delete the folder"
        )
    free = shutil.disk_usage(output.parent).free
    if needed > free:
        raise CheckpointError(
            f"the quantized weights need {needed:,} bytes in {output.parent}, which has {free:,} free; make room or "
            "give another --output"
        )


def _write_rest(folder: Path, weights: WeightSource, kind: QuantKind) -> None:
    checkpoint = weights.checkpoint
    params = {**to_params_json(checkpoint.config), "quantization": quantization_section(kind)}
    (folder / "params.json").write_text(json.dumps(params, indent=2) + "\n", encoding="utf-8")
    if checkpoint.tokenizer is not None:
        shutil.copyfile(checkpoint.tokenizer, folder / checkpoint.tokenizer.name)
    for path in (*folder.iterdir(), folder):
        sync(path)
