"""Product with a weight matrix, the same bits for a row whatever other rows are in the call."""

import torch
import torch.nn.functional as F

from mixtralkit.ops.invariance import is_promised, pad_rows


def linear(x_RD: torch.Tensor, weight_FD: torch.Tensor) -> torch.Tensor:
    """`x_RD @ weight_FD.T`, in the dtype of both; no bias. Differentiable."""
    if not is_promised(x_RD, weight_FD):
        return F.linear(x_RD, weight_FD)
    return F.linear(pad_rows(x_RD), pad_rows(weight_FD))[: x_RD.shape[0], : weight_FD.shape[0]]
