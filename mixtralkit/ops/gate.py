"""The choice of experts from the gate's logits."""

import torch

from mixtralkit.ops.linear import linear
from mixtralkit.ops.matrices import KINDS
from mixtralkit.ops.native import native
from mixtralkit.ops.triton_kernels import triton_takes


def linear_gate(x_TD: torch.Tensor, weight_ED: torch.Tensor, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`topk_gate` of the logits `x_TD @ weight_ED.T`."""
    ops = native(x_TD, weight_ED) if weight_ED.dtype in KINDS else None
    if ops is not None:
        expert_ids_TK, weights_TK = ops.linear_gate(x_TD.contiguous(), weight_ED.contiguous(), top_k)
        return expert_ids_TK, weights_TK
    return topk_gate(linear(x_TD, weight_ED), top_k)


def topk_gate(logits_TE: torch.Tensor, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `top_k` experts of each token and their weights: softmax over the chosen logits, in float32.

    Returns `expert_ids_TK` (int64, best first, of equal logits the lowest id first) and `weights_TK` (float32, each
    row sums to 1). The same function as softmax over all experts, top-k, renormalise
    (Mixtral, arXiv:2401.04088, section 2.1). Differentiable in the weights.
    """
    if triton_takes(logits_TE):
        from mixtralkit.ops.triton import gate_kernels

        return gate_kernels.topk_gate(logits_TE, top_k)
    ops = native(logits_TE)
    if ops is not None:
        expert_ids_TK, weights_TK = ops.topk_gate(logits_TE.contiguous(), top_k)
        return expert_ids_TK, weights_TK
    # torch.topk would take any of equal logits.
    sorted_TE, order_TE = torch.sort(logits_TE.float(), dim=-1, descending=True, stable=True)
    return order_TE[:, :top_k].contiguous(), torch.softmax(sorted_TE[:, :top_k], dim=-1)
