"""Keys and values of the requests that a rank is working on."""

import torch


class KVCache:
    """Room for `num_slots` requests of up to `context` tokens each.

    One tensor a layer and kind, `[slots, G, context, d]`, so that a request's keys are contiguous for each KV head.
    ops/cached_attention writes and reads them.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_slots: int,
        context: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (num_slots, num_kv_heads, context, head_dim)
        self.num_slots = num_slots
        self.context = context
        self._keys = [torch.empty(shape, dtype=dtype, device=device) for _ in range(num_layers)]
        self._values = [torch.empty(shape, dtype=dtype, device=device) for _ in range(num_layers)]

    def layer(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of one layer."""
        return self._keys[layer], self._values[layer]
