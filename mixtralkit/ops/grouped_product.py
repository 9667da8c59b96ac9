"""The SwiGLU MLPs of several experts over many rows, by torch's grouped product on GPUs of sm_90.

With some hundred rows an expert the tensor cores are the limit, and what is written for one architecture (warps that
only load, tiles of 128 x 256) uses them better than what Triton makes of a loop. The counts stay on the device. What is
different from ops/triton/expert_kernels: w1's and w3's products are rounded to bfloat16 before they are multiplied.

On other architectures torch 2.10 loops over the experts and waits for the counts, or has kernels that fail (sm_100).
"""

import torch
import torch.nn.functional as F

from mixtralkit.ops.matrices import Matrices
from mixtralkit.ops.triton.tile_table import architecture, chosen

_ARCHITECTURE = 90


def expert_rows(
    x_TD: torch.Tensor, pairs_N: torch.Tensor | None, counts_E: torch.Tensor, top_k: int, weights: Matrices
) -> torch.Tensor:
    """As `grouped_swiglu` of ops/triton/expert_kernels, by that or by `grouped_rows`."""
    if is_grouped(x_TD.shape[0] * top_k, x_TD, weights):
        return grouped_rows(x_TD, pairs_N, counts_E, top_k, weights)
    from mixtralkit.ops.triton.expert_kernels import grouped_swiglu

    return grouped_swiglu(x_TD, pairs_N, counts_E, top_k, weights)


def is_grouped(rows: int, x: torch.Tensor, weights: Matrices) -> bool:
    """Whether so many rows of `x` go through these experts by `grouped_rows`."""
    if not x.is_cuda or x.dtype != torch.bfloat16 or architecture(x.device) != _ARCHITECTURE:
        return False
    return rows >= least_rows() * (len(weights.matrices) // 3) and weights.expert_stacks is not None


def least_rows() -> int:
    """How many rows an expert must have on average; what decides is `python -m benchmarks.gpu.tune`.

    By arithmetic an H100 does 295 products of bfloat16 in the time in which it reads a weight, so from about as many
    rows on reading is not the limit; and torch takes its larger tiles from 128 on.
    """
    return chosen(_ARCHITECTURE, "grouped")["rows"]


def grouped_rows(
    x_TD: torch.Tensor, pairs_N: torch.Tensor | None, counts_E: torch.Tensor, top_k: int, weights: Matrices
) -> torch.Tensor:
    """As `grouped_swiglu` of ops/triton/expert_kernels, for weights in bfloat16 that have `expert_stacks`."""
    from mixtralkit.ops.triton.gated_kernels import gated_halves

    assert weights.expert_stacks is not None
    up_EUD, down_EDF = weights.expert_stacks
    ends_E = counts_E.cumsum(0).to(torch.int32)
    rows_ND = x_TD if pairs_N is None else x_TD.index_select(0, pairs_N // top_k)
    both_NU = F.grouped_mm(rows_ND.contiguous(), up_EUD.transpose(1, 2), offs=ends_E)
    rows_ND = F.grouped_mm(gated_halves(both_NU), down_EDF.transpose(1, 2), offs=ends_E)
    return rows_ND if pairs_N is None else torch.empty_like(rows_ND).index_copy_(0, pairs_N, rows_ND)
