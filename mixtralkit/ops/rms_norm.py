"""Root mean square normalisation."""

from typing import NamedTuple

import torch

from mixtralkit.ops.matrices import KINDS
from mixtralkit.ops.native import native
from mixtralkit.ops.triton_kernels import triton_takes


class Norm(NamedTuple):
    """A norm that an op applies to its inputs before all else."""

    weight_D: torch.Tensor
    eps: float

    def native(self) -> torch.Tensor | None:
        """The weight as the extension's operators take it; None when they do not have its dtype."""
        return self.weight_D.contiguous() if self.weight_D.dtype in KINDS else None


def rms_norm(x_TD: torch.Tensor, weight_D: torch.Tensor, eps: float) -> torch.Tensor:
    """`x / sqrt(mean(x^2) + eps) * weight` over the last dimension, computed in float32 (arXiv:1910.07467).

    Same shape and dtype as `x_TD`. Differentiable.
    """
    if triton_takes(x_TD, weight_D):
        from mixtralkit.ops.triton import norm_kernels

        return norm_kernels.rms_norm(x_TD, weight_D, eps)
    ops, weight = native(x_TD, weight_D), Norm(weight_D, eps).native()
    if ops is not None and weight is not None:
        found: torch.Tensor = ops.rms_norm(x_TD.contiguous(), weight, eps)
        return found
    x = x_TD.float()
    scaled = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    return scaled.to(x_TD.dtype) * weight_D.to(x_TD.dtype)
