"""The attention half of a block."""

from functools import cached_property

import torch
from torch import nn

from mixtralkit.model.batch import Batch
from mixtralkit.model.kv_cache import KVCache
from mixtralkit.model.linear_layer import Linear
from mixtralkit.ops.blocks import attention_block
from mixtralkit.ops.causal_attention import attention
from mixtralkit.ops.linear import side_by_side
from mixtralkit.ops.matrices import Matrices
from mixtralkit.ops.rms_norm import Norm
from mixtralkit.ops.rotary import Rotations, rotate


class Attention(nn.Module):
    """Grouped-query attention with rotary positions; requests of a batch do not see one another."""

    def __init__(
        self, *, layer: int, dim: int, num_heads: int, num_kv_heads: int, head_dim: int, sliding_window: int | None
    ) -> None:
        super().__init__()
        self.layer = layer
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = head_dim
        self.sliding_window = sliding_window
        self.wq = Linear(dim, num_heads * head_dim)
        self.wk = Linear(dim, num_kv_heads * head_dim)
        self.wv = Linear(dim, num_kv_heads * head_dim)
        self.wo = Linear(num_heads * head_dim, dim)

    def forward(
        self, x_TD: torch.Tensor, norm: Norm, batch: Batch, rotations_T: Rotations, cache: KVCache | None
    ) -> torch.Tensor:
        """`x + attention(norm(x))`, `[T, D]`. Without a cache, as in training, segments must start at position 0."""
        if cache is None:
            heads_TX = self._attend_uncached(side_by_side(x_TD, self._qkv, norm=norm), batch, rotations_T)
            return side_by_side(heads_TX, self._out, residual=x_TD)
        return attention_block(
            *(
                x_TD,
                norm,
                self._qkv,
                self._out,
                *cache.layer(self.layer),
                batch.segments_B2,
                batch.tables_BM,
                rotations_T,
            ),
            num_heads=self.num_heads,
            sliding_window=self.sliding_window,
            on_device=batch.on_device,
        )

    # Looked up at the first call: later, parameters may change in place, and not be replaced by others.

    @cached_property
    def _qkv(self) -> Matrices:
        return Matrices([self.wq.weight, self.wk.weight, self.wv.weight])

    @cached_property
    def _out(self) -> Matrices:
        return Matrices([self.wo.weight])

    def _attend_uncached(self, qkv_TX: torch.Tensor, batch: Batch, rotations_T: Rotations) -> torch.Tensor:
        heads_TXd = qkv_TX.unflatten(1, (-1, self.head_dim))
        q_THd, k_TGd, v_TGd = heads_TXd.split([self.num_heads, self.num_kv_heads, self.num_kv_heads], dim=1)
        lengths = [segment.length for segment in batch.segments]
        parts = (part.split(lengths) for part in (rotate(q_THd, rotations_T), rotate(k_TGd, rotations_T), v_TGd))
        outs = [
            attention(q, k.transpose(0, 1), v.transpose(0, 1), self.sliding_window)
            for q, k, v in zip(*parts, strict=True)
        ]
        return torch.cat(outs).flatten(1) if outs else q_THd.flatten(1)
