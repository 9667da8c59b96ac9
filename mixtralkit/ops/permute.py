"""Rows out of tokens and tokens out of rows: the two ends of a dispatch."""

import torch


def weighted_sum(rows_TKD: torch.Tensor, weights_TK: torch.Tensor) -> torch.Tensor:
    """Add the K results of each token, weighted, in the order of the gate's top-k and in float32.

    The order is fixed, so the sum does not depend on where the rows were computed. Returns float32 `[T, D]`.
    Differentiable in both.
    """
    total_TD = rows_TKD[:, 0].float() * weights_TK[:, :1]
    for k in range(1, weights_TK.shape[1]):
        total_TD = total_TD + rows_TKD[:, k].float() * weights_TK[:, k : k + 1]
    return total_TD
