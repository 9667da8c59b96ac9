"""Makes a model of a checkpoint, reading only what this process needs of it."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from mixtralkit.checkpoint.finite_checks import FiniteChecks
from mixtralkit.checkpoint.formats import detect
from mixtralkit.checkpoint.memory_room import check_room
from mixtralkit.checkpoint.quantization import part_dtype
from mixtralkit.checkpoint.quantizing import WeightSource, open_weights
from mixtralkit.checkpoint.slots import Slots
from mixtralkit.checkpoint.split_files import name_some
from mixtralkit.checkpoint.streaming import read_in_order
from mixtralkit.log import get_logger, notice
from mixtralkit.model.quantized_linear import WIDE, quantize_modules
from mixtralkit.model.transformer import Transformer
from mixtralkit.ops.quantized_weight import GROUP, QuantKind

# Tensors that are small and through which everything flows: they are checked for NaN and infinity at every load.
CHECKED = ("norm.weight", "gate.weight")


@dataclass(frozen=True)
class LoadProgress:
    """How far loading is, counted in what this process loads; `name` is the tensor that was just loaded."""

    name: str
    tensors: int
    total_tensors: int
    nbytes: int
    total_nbytes: int


def load_model(
    folder: Path | str,
    *,
    dtype: torch.dtype | None,
    device: torch.device,
    quantize: QuantKind | None = None,
    spread: Callable[[Transformer], None] | None = None,
    on_progress: Callable[[LoadProgress], None] | None = None,
) -> Transformer:
    """The model in `folder`, ready for inference (eval mode, no gradients), in `dtype` (None: the files' own).

    With `quantize` its matrices are quantized while they are read, unless they are so already; the rest is in `dtype`.
    `spread` is called with the still empty model and may take away the parts that other ranks hold; only what is left
    is read. On the CPU and in the files' own dtype the parameters stay in mapped memory. Raises `CheckpointError`,
    `ConfigError`, `UsageError` for weights that are quantized in another way already or, when the device has no room,
    `LaunchError`.
    """
    weights = open_weights(detect(folder), quantize)
    with torch.device("meta"):
        model = Transformer(weights.checkpoint.config)
    if weights.quantization is not None:
        _tell_of_quantized(weights, weights.quantization, device)
        quantize_modules(model, weights.quantization)
    if spread is not None:
        spread(model)
    dtype = dtype or weights.dtype
    _check_room(model, weights, dtype, device)
    fill(model, weights, dtype=dtype, device=device, on_progress=on_progress)
    return model.eval().requires_grad_(False)


def fill(
    model: nn.Module,
    weights: WeightSource,
    *,
    dtype: torch.dtype,
    device: torch.device,
    prefix: str = "",
    on_progress: Callable[[LoadProgress], None] | None = None,
) -> None:
    """Replace each parameter of `model` by the checkpoint's tensor of that name, one after the other.

    `prefix` goes before the names, where `model` is a part of the checkpoint's.
    """
    names = [prefix + name for name, _ in model.named_parameters()]
    done, total = 0, sum(weights.stored_nbytes(name) for name in names)
    checks, slots = FiniteChecks(device), Slots(model, prefix)
    with closing(read_in_order(weights, names, dtype, device, checks)) as tensors:
        for count, (name, tensor) in enumerate(zip(names, tensors, strict=True), start=1):
            _check_finite(name, tensor, checks)
            _assign(model, name.removeprefix(prefix), slots.place(name, tensor))
            done += weights.stored_nbytes(name)
            if on_progress is not None:
                on_progress(LoadProgress(name, count, len(names), done, total))
    checks.settle()


def _tell_of_quantized(weights: WeightSource, kind: QuantKind, device: torch.device) -> None:
    logger = get_logger(__name__)
    if kind is QuantKind.FP8 and device.type == "cpu":
        notice(
            logger,
            "fp8 weights are for GPUs: a CPU makes float32 of them in each product, about a hundred times slower than "
            "int8, which takes as much memory and is more exact; prefer --quantize int8 here",
        )
    wide = [name for name in weights.shapes if part_dtype(name, kind) is None and not name.endswith(WIDE)]
    if wide:
        notice(
            logger,
            f"{len(wide)} matrices are not quantized, since their inputs do not divide into groups of {GROUP}: "
            f"{name_some(wide, 3)}",
        )


def _check_room(model: nn.Module, weights: WeightSource, dtype: torch.dtype, device: torch.device) -> None:
    names = [name for name, _ in model.named_parameters()]
    mapped = {name for name in names if weights.stays_mapped(name, dtype, device)}
    check_room(
        private=sum(
            weights.numel(n) * (part_dtype(n, weights.quantization) or dtype).itemsize for n in names if n not in mapped
        ),
        mapped=sum(weights.stored_nbytes(name) for name in mapped),
        device=device,
    )


def _assign(model: nn.Module, name: str, tensor: torch.Tensor) -> None:
    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    wanted = module.get_parameter(leaf).shape
    if wanted != tensor.shape:
        raise AssertionError(f"the model's {name} is {list(wanted)}, the checkpoint's {list(tensor.shape)}")
    setattr(module, leaf, nn.Parameter(tensor, requires_grad=False))


def _check_finite(name: str, tensor: torch.Tensor, checks: FiniteChecks) -> None:
    if name.endswith(CHECKED):
        checks.expect(
            tensor,
            f"{name} holds NaN or infinity in {tensor.dtype}: the checkpoint is damaged, or its values need a wider "
            "dtype; 'mixtralkit verify' finds all such tensors",
        )
