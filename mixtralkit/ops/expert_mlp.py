"""The SwiGLU MLPs of several experts over rows that are sorted by expert."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from mixtralkit.ops.invariance import is_promised, map_elements, pad_rows
from mixtralkit.ops.linear import linear


def swiglu(x_RD: torch.Tensor, w1_FD: torch.Tensor, w2_DF: torch.Tensor, w3_FD: torch.Tensor) -> torch.Tensor:
    """One expert: `(silu(x w1.T) * (x w3.T)) w2.T` (arXiv:2002.05202), in the dtype of `x_RD`. Differentiable."""
    rows = x_RD.shape[0]
    x_RD = pad_rows(x_RD) if is_promised(x_RD, w1_FD) else x_RD
    hidden_RF = map_elements(F.silu, linear(x_RD, w1_FD)) * linear(x_RD, w3_FD)
    return linear(hidden_RF, w2_DF)[:rows]


def expert_mlp(
    rows_RD: torch.Tensor,
    counts_e: Sequence[int],
    w1_eFD: Sequence[torch.Tensor],
    w2_eDF: Sequence[torch.Tensor],
    w3_eFD: Sequence[torch.Tensor],
) -> torch.Tensor:
    """Apply expert i to its `counts_e[i]` consecutive rows; the weights are one matrix an expert, so that they can
    lie anywhere (in a mapped file, say). Returns `[R, D]` in the same order. Differentiable; the weights of an expert
    without rows are not touched, and get no gradient.
    """
    if sum(counts_e) != rows_RD.shape[0]:
        raise ValueError(
            f"the counts {list(counts_e)} add up to {sum(counts_e)}, not to the {rows_RD.shape[0]} rows given"
        )
    experts = zip(rows_RD.split(list(counts_e)), w1_eFD, w2_eDF, w3_eFD, strict=True)
    results = [swiglu(x, w1, w2, w3) for x, w1, w2, w3 in experts if x.shape[0]]
    return torch.cat(results) if results else rows_RD
