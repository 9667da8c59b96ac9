"""Rows out of tokens, and tokens out of rows: the two ends of a dispatch.

A row is one (token, k) pair; its flat number is token * K + k.
"""

import torch

from mixtralkit.ops.native import native


def take_rows(x_TD: torch.Tensor, pairs_N: torch.Tensor, top_k: int) -> torch.Tensor:
    """The token of each of the flat pairs: `[N, D]`. Differentiable."""
    ops = native(x_TD)
    if ops is not None:
        found: torch.Tensor = ops.take_rows(x_TD.contiguous(), pairs_N.contiguous(), top_k)
        return found
    return x_TD.index_select(0, pairs_N // top_k)


def sum_rows(rows_ND: torch.Tensor, pairs_N: torch.Tensor, weights_TK: torch.Tensor) -> torch.Tensor:
    """Undo `take_rows`: bring the results into the order of their pairs and add each token's, weighted.

    Returns `[T, D]` in the dtype of the rows. Differentiable in the rows and the weights.
    """
    ops = native(rows_ND, weights_TK)
    if ops is not None:
        found: torch.Tensor = ops.sum_rows(rows_ND.contiguous(), pairs_N.contiguous(), weights_TK.contiguous())
        return found
    tokens, top_k = weights_TK.shape
    rows_TKD = torch.empty_like(rows_ND).index_copy(0, pairs_N, rows_ND).view(tokens, top_k, rows_ND.shape[1])
    return weighted_sum(rows_TKD, weights_TK).to(rows_ND.dtype)


def weighted_sum(rows_TKD: torch.Tensor, weights_TK: torch.Tensor) -> torch.Tensor:
    """Add the K results of each token, weighted, in the order of the gate's top-k and in float32.

    The order is fixed, so the sum does not depend on where the rows were computed. Returns float32 `[T, D]`.
    Differentiable in both.
    """
    total_TD = rows_TKD[:, 0].float() * weights_TK[:, :1]
    for k in range(1, weights_TK.shape[1]):
        total_TD = total_TD + rows_TKD[:, k].float() * weights_TK[:, k : k + 1]
    return total_TD
