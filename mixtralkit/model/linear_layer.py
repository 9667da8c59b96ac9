"""A weight matrix as a module, without bias."""

import torch
from torch import nn

from mixtralkit.ops.linear import side_by_side
from mixtralkit.ops.matrices import Matrices, single
from mixtralkit.ops.rms_norm import Norm


class Linear(nn.Module):
    """Holds `weight` of shape [outputs, inputs], uninitialised, and multiplies by it through ops/linear."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self._matrices: Matrices | None = None

    def forward(self, x_RD: torch.Tensor, norm: Norm | None = None) -> torch.Tensor:
        """`[R, inputs] -> [R, outputs]`, after the norm if there is one."""
        self._matrices = single(self.weight, self._matrices)
        return side_by_side(x_RD, self._matrices, norm=norm)
