"""The two halves of a decoder block, each in one call where the extension has it.

A step at a small batch is bound by reading the weights, which leaves nothing of the interpreter in the caches: whatever
it does between two calls it fetches from memory again.
"""

import torch

from mixtralkit.ops.cached_attention import EVERYTHING, cached_attention
from mixtralkit.ops.device_segments import DeviceSegments
from mixtralkit.ops.grouped_product import expert_rows
from mixtralkit.ops.linear import linear, side_by_side
from mixtralkit.ops.matrices import KINDS, Matrices
from mixtralkit.ops.native import native
from mixtralkit.ops.rms_norm import Norm, rms_norm
from mixtralkit.ops.rotary import Rotations
from mixtralkit.ops.triton_kernels import triton_takes


def attention_block(
    x_TD: torch.Tensor,
    norm: Norm,
    qkv: Matrices,
    out: Matrices,
    keys_PGbd: torch.Tensor,
    values_PGbd: torch.Tensor,
    segments_B2: torch.Tensor,
    tables_BM: torch.Tensor,
    rotations_T: Rotations,
    *,
    num_heads: int,
    sliding_window: int | None,
    on_device: DeviceSegments | None = None,
) -> torch.Tensor:
    """`x + out(attention(qkv(norm(x))))`, `[T, D]`; ops/cached_attention has the meaning of the rest. No gradients."""
    ops, weight_D = native(x_TD, norm.weight_D, keys_PGbd, values_PGbd, qkv, out), norm.native()
    if ops is not None and weight_D is not None and qkv.native_parts and out.native_parts:
        window = sliding_window or EVERYTHING
        found: torch.Tensor = ops.attention_block(
            *(x_TD.contiguous(), weight_D, norm.eps, *qkv.native_parts, qkv.outputs),
            *(keys_PGbd, values_PGbd, segments_B2, tables_BM, *rotations_T, num_heads, window, *out.native_parts),
        )
        return found
    qkv_TX = side_by_side(x_TD, qkv, norm=norm)
    heads_TX = cached_attention(
        *(qkv_TX, keys_PGbd, values_PGbd, segments_B2, tables_BM, rotations_T),
        num_heads=num_heads,
        sliding_window=sliding_window,
        on_device=on_device,
    )
    return side_by_side(heads_TX, out, residual=x_TD)


def moe_block(
    x_TD: torch.Tensor, norm: Norm, gate_ED: torch.Tensor, top_k: int, experts: Matrices
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """`x` plus the weighted sum of the experts of `norm(x)`, `[T, D]`, and their ids, `[T, K]`, best first.

    `experts` has all experts of the model, as ops/expert_mlp takes them. None where no kernel does all of it. On a GPU
    nothing waits for the device: how many rows an expert has is known only there.
    """
    if triton_takes(x_TD, norm.weight_D, gate_ED, experts):
        takes = experts.addresses is not None and x_TD.dtype in KINDS
        return _moe_on_gpu(x_TD, norm, gate_ED, top_k, experts) if takes else None
    ops, weight_D = native(x_TD, norm.weight_D, gate_ED, experts), norm.native()
    if ops is None or weight_D is None or experts.native_parts is None or gate_ED.dtype not in KINDS:
        return None
    gate_ED = gate_ED.contiguous()
    out_TD, expert_ids_TK = ops.moe_block(
        x_TD.contiguous(), weight_D, norm.eps, gate_ED, top_k, *experts.native_parts, experts.outputs[0]
    )
    return out_TD, expert_ids_TK


def _moe_on_gpu(
    x_TD: torch.Tensor, norm: Norm, gate_ED: torch.Tensor, top_k: int, experts: Matrices
) -> tuple[torch.Tensor, torch.Tensor]:
    from mixtralkit.ops.triton.combine_kernels import weighted_rows_sum
    from mixtralkit.ops.triton.gate_kernels import sorted_gate

    normed_TD = rms_norm(x_TD, *norm)
    expert_ids_TK, weights_TK, pairs_N, counts_E = sorted_gate(linear(normed_TD, gate_ED), top_k)
    rows_ND = expert_rows(normed_TD, pairs_N, counts_E, top_k, experts)
    return weighted_rows_sum(rows_ND, weights_TK, x_TD), expert_ids_TK
