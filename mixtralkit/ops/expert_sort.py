"""The order in which the rows of a batch lie when they are grouped by expert."""

import torch

from mixtralkit.ops import library
from mixtralkit.ops.triton_kernels import triton_takes


def expert_sort(expert_ids_TK: torch.Tensor, order_E: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sort the T*K rows by the place of their expert in `order_E`, a permutation of all expert ids.

    Returns `rows_N` (int64: which flat (token, k) pair stands at each place; equal experts keep the order of the
    tokens) and `counts_E` (int64: rows of each expert, in the order of `order_E`).
    """
    if triton_takes(expert_ids_TK):
        from mixtralkit.ops.triton import sort_kernels

        return sort_kernels.expert_sort(expert_ids_TK, order_E)
    ops = library.ops_if_available() if expert_ids_TK.is_cpu else None
    if ops is not None:
        pairs_N, counts_E = ops.expert_sort(expert_ids_TK.contiguous(), order_E.contiguous())
        return pairs_N, counts_E
    num_experts = order_E.numel()
    place_E = torch.empty_like(order_E)
    place_E[order_E] = torch.arange(num_experts, device=order_E.device)
    places_N = place_E[expert_ids_TK.reshape(-1)]
    return torch.argsort(places_N, stable=True), torch.bincount(places_N, minlength=num_experts)
