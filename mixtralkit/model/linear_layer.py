"""A weight matrix as a module, without bias."""

import torch
from torch import nn

from mixtralkit.ops.linear import linear


class Linear(nn.Module):
    """Holds `weight` of shape [outputs, inputs], uninitialised, and multiplies by it through ops/linear."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))

    def forward(self, x_RD: torch.Tensor) -> torch.Tensor:
        """`[R, inputs] -> [R, outputs]`."""
        return linear(x_RD, self.weight)
