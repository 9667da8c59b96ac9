"""Product with a weight matrix, the same bits for a row whatever other rows are in the call.

BLAS libraries choose another kernel, with another order of additions, for one row than for many. On the CPU the
rows are therefore padded to a multiple of `ROW_TILE`, for which the choice was found to be the same at every
size and number of threads (tests/ops/test_linear.py checks it on the machine at hand). Other devices get the
plain product.
"""

import torch
import torch.nn.functional as F

ROW_TILE = 16


def linear(x_RD: torch.Tensor, weight_FD: torch.Tensor) -> torch.Tensor:
    """`x_RD @ weight_FD.T`, in the dtype of both; no bias. Differentiable."""
    rows = x_RD.shape[0]
    padding = -rows % ROW_TILE
    if x_RD.device.type != "cpu" or padding == 0 or torch.is_grad_enabled():
        return F.linear(x_RD, weight_FD)
    return F.linear(F.pad(x_RD, (0, 0, 0, padding)), weight_FD)[:rows]
