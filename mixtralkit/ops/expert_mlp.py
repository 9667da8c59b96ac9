"""The SwiGLU MLPs of several experts over rows that are sorted by expert."""

from collections.abc import Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F

from mixtralkit.ops.grouped_product import expert_rows
from mixtralkit.ops.invariance import map_elements
from mixtralkit.ops.linear import linear
from mixtralkit.ops.matrices import KINDS, Matrices
from mixtralkit.ops.native import native
from mixtralkit.ops.quantized_weight import Matrix
from mixtralkit.ops.triton_kernels import triton_takes
from mixtralkit.ops.upload import upload

Counts: TypeAlias = Sequence[int] | torch.Tensor  # rows of each expert: known to the host, or int64 on the device


def swiglu(x_RD: torch.Tensor, weights: Matrices) -> torch.Tensor:
    """One expert, with its w1, w2, w3: `(silu(x w1.T) * (x w3.T)) w2.T` (arXiv:2002.05202). Differentiable."""
    return expert_mlp(x_RD, [x_RD.shape[0]], weights)


def expert_mlp(rows_RD: torch.Tensor, counts_e: Counts, weights: Matrices) -> torch.Tensor:
    """Apply expert i to its `counts_e[i]` consecutive rows; returns `[R, D]` in the same order.

    `weights` are the w1, w2, w3 of the first expert, then those of the next, each a matrix of its own, so that they can
    lie anywhere (in a mapped file, say). Differentiable; the weights of an expert without rows are not touched, and get
    no gradient.

    Counts on the device may add up to less than R; what is in the rows behind, and in their results, means nothing. The
    kernels for GPUs do not wait for such counts, torch's operators do.
    """
    takes = triton_takes(rows_RD, weights) and weights.addresses is not None and rows_RD.dtype in KINDS
    if isinstance(counts_e, torch.Tensor):
        return _grouped(rows_RD, counts_e, weights) if takes else _first_rows(rows_RD, counts_e.tolist(), weights)
    if sum(counts_e) != rows_RD.shape[0]:
        raise ValueError(
            f"the counts {list(counts_e)} add up to {sum(counts_e)}, not to the {rows_RD.shape[0]} rows given"
        )
    if takes:
        return _grouped(rows_RD, upload(torch.tensor(counts_e), rows_RD.device), weights)
    ops = native(rows_RD, weights)
    if ops is not None and weights.native_parts is not None:
        found: torch.Tensor = ops.expert_mlp(rows_RD.contiguous(), counts_e, *weights.native_parts, weights.outputs[0])
        return found
    w = weights.matrices
    experts = zip(rows_RD.split(list(counts_e)), w[0::3], w[1::3], w[2::3], strict=True)
    results = [_swiglu(x, w1, w2, w3) for x, w1, w2, w3 in experts if x.shape[0]]
    return torch.cat(results) if results else rows_RD


def _grouped(rows_RD: torch.Tensor, counts_e: torch.Tensor, weights: Matrices) -> torch.Tensor:
    return expert_rows(rows_RD, None, counts_e, 1, weights)


def _first_rows(rows_RD: torch.Tensor, counts_e: list[int], weights: Matrices) -> torch.Tensor:
    """The results of the rows that are of an expert; the rows behind them as they are."""
    used = sum(counts_e)
    return torch.cat((expert_mlp(rows_RD[:used], counts_e, weights), rows_RD[used:]))


def _swiglu(x_RD: torch.Tensor, w1_FD: Matrix, w2_DF: Matrix, w3_FD: Matrix) -> torch.Tensor:
    hidden_RF = map_elements(F.silu, linear(x_RD, w1_FD)) * linear(x_RD, w3_FD)
    return linear(hidden_RF, w2_DF)
