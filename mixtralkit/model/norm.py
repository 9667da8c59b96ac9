"""Root mean square normalisation as a module."""

import torch
from torch import nn

from mixtralkit.ops.rms_norm import Norm, rms_norm


class RMSNorm(nn.Module):
    """Holds the weight of one norm; see ops/rms_norm."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    @property
    def norm(self) -> Norm:
        """For ops that apply it themselves."""
        return Norm(self.weight, self.eps)

    def forward(self, x_TD: torch.Tensor) -> torch.Tensor:
        """Same shape and dtype as `x_TD`."""
        return rms_norm(x_TD, self.weight, self.eps)
