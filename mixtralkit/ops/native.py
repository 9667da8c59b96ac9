"""Whether a call can go to the extension's operators, and weights in the form in which these take them."""

from collections.abc import Sequence
from typing import Any

import torch

from mixtralkit.ops import library
from mixtralkit.ops.invariance import is_promised
from mixtralkit.ops.quantized_weight import Matrix, QuantizedWeight, QuantKind

KINDS = (torch.float32, torch.bfloat16, torch.float16, *QuantKind)


def native(x: torch.Tensor, *others: torch.Tensor) -> Any | None:
    """The operators, if they are there and take a call with the activations `x`: float32, on the CPU, no gradients."""
    if x.dtype != torch.float32 or not is_promised(x, *others) or not library.available():
        return None
    return library.ops()


def native_for(x: torch.Tensor, weights: Sequence[Matrix]) -> Any | None:
    """As `native`, for products with `weights`, which must be of one kind."""
    first = weights[0]
    if isinstance(first, torch.Tensor):
        if first.dtype not in FLOATS or not all(
            isinstance(w, torch.Tensor) and w.dtype == first.dtype for w in weights
        ):
            return None
        return native(x, *(w for w in weights if isinstance(w, torch.Tensor)))
    same = all(isinstance(weight, QuantizedWeight) and weight.kind is first.kind for weight in weights)
    return native(x) if same else None


def weight_parts(
    weights: Sequence[Matrix],
) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
    """The data, scales and mins of matrices of one kind; there are none of the latter where they are not quantized."""
    if isinstance(weights[0], torch.Tensor):
        return [weight for weight in weights if isinstance(weight, torch.Tensor)], [], []
    quantized = [weight for weight in weights if isinstance(weight, QuantizedWeight)]
    mins = [weight.mins for weight in quantized if weight.mins is not None]
    return [weight.codes for weight in quantized], [weight.scales for weight in quantized], mins


def num_outputs(weight: Matrix) -> int:
    """The outputs of a matrix."""
    return weight.outputs if isinstance(weight, QuantizedWeight) else weight.shape[0]
