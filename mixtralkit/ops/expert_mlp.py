"""The SwiGLU MLPs of several experts over rows that are sorted by expert."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from mixtralkit.ops.invariance import map_elements
from mixtralkit.ops.linear import linear
from mixtralkit.ops.native import native_for, num_outputs, weight_parts
from mixtralkit.ops.quantized_weight import Matrix


def swiglu(x_RD: torch.Tensor, w1_FD: Matrix, w2_DF: Matrix, w3_FD: Matrix) -> torch.Tensor:
    """One expert: `(silu(x w1.T) * (x w3.T)) w2.T` (arXiv:2002.05202), in the dtype of `x_RD`. Differentiable."""
    return expert_mlp(x_RD, [x_RD.shape[0]], [w1_FD], [w2_DF], [w3_FD])


def expert_mlp(
    rows_RD: torch.Tensor,
    counts_e: Sequence[int],
    w1_eFD: Sequence[Matrix],
    w2_eDF: Sequence[Matrix],
    w3_eFD: Sequence[Matrix],
) -> torch.Tensor:
    """Apply expert i to its `counts_e[i]` consecutive rows; the weights are one matrix an expert, so that they can
    lie anywhere (in a mapped file, say). Returns `[R, D]` in the same order. Differentiable; the weights of an expert
    without rows are not touched, and get no gradient.
    """
    if sum(counts_e) != rows_RD.shape[0]:
        raise ValueError(
            f"the counts {list(counts_e)} add up to {sum(counts_e)}, not to the {rows_RD.shape[0]} rows given"
        )
    weights = [weight for expert in zip(w1_eFD, w2_eDF, w3_eFD, strict=True) for weight in expert]
    ops = native_for(rows_RD, weights)
    if ops is not None:
        hidden = num_outputs(w1_eFD[0])
        found: torch.Tensor = ops.expert_mlp(rows_RD.contiguous(), list(counts_e), *weight_parts(weights), hidden)
        return found
    experts = zip(rows_RD.split(list(counts_e)), w1_eFD, w2_eDF, w3_eFD, strict=True)
    results = [_swiglu(x, w1, w2, w3) for x, w1, w2, w3 in experts if x.shape[0]]
    return torch.cat(results) if results else rows_RD


def _swiglu(x_RD: torch.Tensor, w1_FD: Matrix, w2_DF: Matrix, w3_FD: Matrix) -> torch.Tensor:
    hidden_RF = map_elements(F.silu, linear(x_RD, w1_FD)) * linear(x_RD, w3_FD)
    return linear(hidden_RF, w2_DF)
