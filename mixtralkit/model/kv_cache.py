"""Keys and values of the requests that a rank is working on."""

import torch


class KVCache:
    """Room for `num_slots` requests of up to `context` tokens each.

    One tensor a layer and kind, `[slots, G, context, d]`, so that a request's keys are contiguous for each KV head.
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

    def extend(
        self, layer: int, slot: int, start: int, k_TGd: torch.Tensor, v_TGd: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the keys and values of positions `start`..., and return all up to there, both `[G, S, d]`."""
        end = start + k_TGd.shape[0]
        keys, values = self._keys[layer][slot], self._values[layer][slot]
        keys[:, start:end] = k_TGd.transpose(0, 1)
        values[:, start:end] = v_TGd.transpose(0, 1)
        return keys[:, :end], values[:, :end]
