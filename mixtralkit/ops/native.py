"""Whether a call can go to the extension's operators."""

from typing import Any

import torch

from mixtralkit.ops import library
from mixtralkit.ops.invariance import is_promised
from mixtralkit.ops.matrices import Matrices


def native(x: torch.Tensor, *others: torch.Tensor | Matrices) -> Any | None:
    """The operators, if they are there and take a call with the activations `x`: float32, on the CPU, no gradients."""
    if x.dtype != torch.float32 or not is_promised(x, *others):
        return None
    return library.ops_if_available()
