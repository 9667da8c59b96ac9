"""The attention half of a block."""

import torch
from torch import nn

from mixtralkit.model.batch import Batch
from mixtralkit.model.kv_cache import KVCache
from mixtralkit.model.linear_layer import Linear
from mixtralkit.model.rope import rotate
from mixtralkit.ops.causal_attention import attention


class Attention(nn.Module):
    """Grouped-query attention with rotary positions; requests of a batch do not see one another."""

    def __init__(
        self, *, layer: int, dim: int, num_heads: int, num_kv_heads: int, head_dim: int, sliding_window: int | None
    ) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = head_dim
        self.sliding_window = sliding_window
        self.wq = Linear(dim, num_heads * head_dim)
        self.wk = Linear(dim, num_kv_heads * head_dim)
        self.wv = Linear(dim, num_kv_heads * head_dim)
        self.wo = Linear(num_heads * head_dim, dim)

    def forward(
        self,
        x_TD: torch.Tensor,
        batch: Batch,
        rotations_T: tuple[torch.Tensor, torch.Tensor],
        cache: KVCache | None,
    ) -> torch.Tensor:
        """`[T, D] -> [T, D]`. Without a cache every segment attends to itself only and must start at position 0."""
        q_THd = rotate(self._heads(self.wq(x_TD)), rotations_T)
        k_TGd = rotate(self._heads(self.wk(x_TD)), rotations_T)
        v_TGd = self._heads(self.wv(x_TD))
        lengths = [segment.length for segment in batch.segments]
        parts = zip(batch.segments, q_THd.split(lengths), k_TGd.split(lengths), v_TGd.split(lengths), strict=True)
        outs = []
        for segment, q, k, v in parts:
            if cache is None:
                keys, values = k.transpose(0, 1), v.transpose(0, 1)
            else:
                keys, values = cache.extend(self.layer, segment.slot, segment.start, k, v)
            outs.append(attention(q, keys, values, self.sliding_window))
        out_THd = torch.cat(outs) if outs else q_THd
        out_TD: torch.Tensor = self.wo(out_THd.flatten(1))
        return out_TD

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        heads: torch.Tensor = x.unflatten(-1, (-1, self.head_dim))
        return heads
