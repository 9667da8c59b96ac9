"""A checkpoint quantized while it is read: for loading with --quantize, and for writing a quantized one."""

from typing import TypeAlias

import torch

from mixtralkit.checkpoint.finite_checks import FiniteChecks
from mixtralkit.checkpoint.formats import Checkpoint
from mixtralkit.checkpoint.quantization import part_dtype, quantized_shapes, split_name
from mixtralkit.checkpoint.reader import Stretch
from mixtralkit.checkpoint.weights import Weights
from mixtralkit.errors import UsageError
from mixtralkit.ops.quantize import quantize
from mixtralkit.ops.quantized_weight import QuantizedWeight, QuantKind


class QuantizingWeights:
    """What `Weights` would be if the checkpoint were quantized; a matrix is quantized when one of its parts is read.

    The last one is kept, so that its other parts, which are asked for next, need not be made again.
    """

    def __init__(self, weights: Weights, kind: QuantKind) -> None:
        self.checkpoint = weights.checkpoint
        self.naming = weights.naming
        self.dtype = weights.dtype
        self.quantization = kind
        self.shapes = quantized_shapes(weights.shapes, kind)
        self._weights = weights
        self._last: tuple[str, QuantizedWeight] | None = None

    def numel(self, name: str) -> int:
        """How many elements tensor `name` has."""
        return torch.Size(self.shapes[name]).numel()

    def stored_nbytes(self, name: str) -> int:
        """How many bytes tensor `name` takes in a quantized checkpoint."""
        dtype = part_dtype(name, self.quantization)
        return self._weights.stored_nbytes(name) if dtype is None else self.numel(name) * dtype.itemsize

    def stays_mapped(self, name: str, dtype: torch.dtype, device: torch.device) -> bool:
        """Whether tensor `name` needs no memory of its own: no part of a quantized matrix does."""
        return part_dtype(name, self.quantization) is None and self._weights.stays_mapped(name, dtype, device)

    def read(self, name: str, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Tensor `name`; `dtype` is for what is not quantized.

        Raises `CheckpointError` for weights that are not finite, or too large for float16's scales.
        """
        if part_dtype(name, self.quantization) is None:
            return self._weights.read(name, dtype, device)
        whole, part = split_name(name)
        cpu = torch.device("cpu")
        if self._last is None or self._last[0] != whole:
            self._last = None  # so that two of them are never in memory
            matrix = self._weights.read(whole, self._weights.stored_dtype(whole), cpu)
            self._last = whole, self._quantize(whole, matrix, FiniteChecks(cpu))
        return self._last[1].parts[part].to(device)

    def stretch(self, name: str) -> Stretch:
        """The bytes of the files that tensor `name` is made of: for a part of a matrix, all of the matrix."""
        return self._weights.stretch(name if part_dtype(name, self.quantization) is None else split_name(name)[0])

    def make(self, name: str, dtype: torch.dtype, data: torch.Tensor, checks: FiniteChecks) -> torch.Tensor:
        """What `read` gives, from the bytes (uint8) of its stretch, on the device where they are."""
        if part_dtype(name, self.quantization) is None:
            return self._weights.make(name, dtype, data, checks)
        whole, part = split_name(name)
        if self._last is None or self._last[0] != whole:
            matrix = self._weights.make(whole, self._weights.stored_dtype(whole), data, checks)
            self._last = whole, self._quantize(whole, matrix, checks)
        return self._last[1].parts[part]

    def _quantize(self, name: str, matrix: torch.Tensor, checks: FiniteChecks) -> QuantizedWeight:
        made = quantize(matrix, self.quantization)
        for numbers in [part for name, part in made.parts.items() if name != "codes"]:
            checks.expect(
                numbers,
                f"{name} holds NaN, infinity or a value too large to be quantized: the checkpoint is damaged; "
                "'mixtralkit verify' finds all such tensors",
            )
        return made


WeightSource: TypeAlias = Weights | QuantizingWeights


def open_weights(checkpoint: Checkpoint, quantize: QuantKind | None = None) -> WeightSource:
    """The checkpoint's weights, quantized while they are read where `quantize` asks for what they are not yet.

    Raises `CheckpointError` as `Weights` does, and `UsageError` when they are quantized in another way already.
    """
    kind = checkpoint.quantization
    if quantize is not None and kind not in (None, quantize):
        raise UsageError(
            f"{checkpoint.folder} is quantized to {kind.value} already, so it cannot be quantized to {quantize.value}; "
            "give the folder of the original weights"
        )
    weights = Weights(checkpoint)
    return weights if quantize is None or kind is quantize else QuantizingWeights(weights, quantize)
