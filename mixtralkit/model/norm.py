"""Root mean square normalisation as a module."""

import torch
from torch import nn

from mixtralkit.ops.rms_norm import Norm


class RMSNorm(nn.Module):
    """Holds the weight of one norm, which the ops that come after it apply; see ops/rms_norm."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    @property
    def norm(self) -> Norm:
        """For these ops."""
        return Norm(self.weight, self.eps)
