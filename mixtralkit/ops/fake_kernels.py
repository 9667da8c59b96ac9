"""What the extension's operators return, without computing it: for meta tensors, torch.compile and opcheck."""

from collections.abc import Callable, Sequence
from typing import Any

import torch


def register_fake_kernels() -> None:
    """Tell torch of them; once, after the extension is loaded."""
    for name, fake in _FAKES.items():
        torch.library.register_fake(f"mixtralkit::{name}", fake)


def _linear(
    x_RD: torch.Tensor,
    data: Sequence[torch.Tensor],
    scales: Sequence[torch.Tensor],
    mins: Sequence[torch.Tensor],
    outputs: Sequence[int],
    norm_D: torch.Tensor | None = None,
    eps: float = 0.0,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    return x_RD.new_empty(x_RD.shape[0], sum(outputs))


def _expert_mlp(
    rows_RD: torch.Tensor,
    counts_e: Sequence[int],
    data: Sequence[torch.Tensor],
    scales: Sequence[torch.Tensor],
    mins: Sequence[torch.Tensor],
    hidden: int,
) -> torch.Tensor:
    return torch.empty_like(rows_RD)


def _attention_block(x_TD: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(x_TD)


def _moe_block(
    x_TD: torch.Tensor, norm_D: torch.Tensor, eps: float, gate_ED: torch.Tensor, top_k: int, *_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(x_TD), _topk_gate(x_TD, top_k)[0]


def _rms_norm(x_TD: torch.Tensor, weight_D: torch.Tensor, eps: float) -> torch.Tensor:
    return torch.empty_like(x_TD)


def _attention(
    qkv: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    segments: torch.Tensor,
    tables: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    heads: int,
    window: int,
) -> torch.Tensor:
    return qkv.new_empty(qkv.shape[0], heads * keys.shape[3])


def _rotations(positions_T: torch.Tensor, head_dim: int, theta: float) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (positions_T.shape[0], head_dim // 2)
    return positions_T.new_empty(shape, dtype=torch.float32), positions_T.new_empty(shape, dtype=torch.float32)


def _topk_gate(logits_TE: torch.Tensor, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (logits_TE.shape[0], top_k)
    return logits_TE.new_empty(shape, dtype=torch.int64), logits_TE.new_empty(shape)


def _linear_gate(x_TD: torch.Tensor, weight_ED: torch.Tensor, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    return _topk_gate(x_TD, top_k)


def _expert_sort(expert_ids_TK: torch.Tensor, order_E: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return expert_ids_TK.new_empty(expert_ids_TK.numel()), torch.empty_like(order_E)


def _take_rows(x_TD: torch.Tensor, pairs_N: torch.Tensor, top_k: int) -> torch.Tensor:
    return x_TD.new_empty(pairs_N.shape[0], x_TD.shape[1])


def _sum_rows(rows_ND: torch.Tensor, pairs_N: torch.Tensor, weights_TK: torch.Tensor) -> torch.Tensor:
    return rows_ND.new_empty(weights_TK.shape[0], rows_ND.shape[1])


_FAKES: dict[str, Callable[..., Any]] = {
    "linear": _linear,
    "expert_mlp": _expert_mlp,
    "attention_block": _attention_block,
    "moe_block": _moe_block,
    "rms_norm": _rms_norm,
    "attention": _attention,
    "rotations": _rotations,
    "topk_gate": _topk_gate,
    "linear_gate": _linear_gate,
    "expert_sort": _expert_sort,
    "take_rows": _take_rows,
    "sum_rows": _sum_rows,
}
