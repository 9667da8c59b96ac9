"""How many rows each expert of each layer was sent."""

import torch

_PENDING = 1024  # rows of a layer that are counted at once


class ExpertLoad:
    """Counts the rows of this rank's tokens, on the model's device; the sum over the ranks is the model's load.

    A call is only noted down; counting waits until there are many rows, or somebody looks.
    """

    def __init__(self, num_layers: int, num_experts: int, device: torch.device) -> None:
        self._rows_LE = torch.zeros(num_layers, num_experts, dtype=torch.int64, device=device)
        self._pending: list[list[torch.Tensor]] = [[] for _ in range(num_layers)]
        self._pending_rows = [0] * num_layers

    def count(self, layer: int, expert_ids_TK: torch.Tensor) -> None:
        """Add the rows of one call of one layer. Does not wait for the device."""
        self._pending[layer].append(expert_ids_TK)
        self._pending_rows[layer] += expert_ids_TK.numel()
        if self._pending_rows[layer] >= _PENDING:
            self._count_pending(layer)

    @property
    def rows_LE(self) -> torch.Tensor:
        """The rows so far, int64, of each layer and expert."""
        for layer in range(len(self._pending)):
            self._count_pending(layer)
        return self._rows_LE.clone()

    def _count_pending(self, layer: int) -> None:
        if not self._pending[layer]:
            return
        ids_N = torch.cat([ids.flatten() for ids in self._pending[layer]])
        # torch.bincount would wait for the device.
        self._rows_LE[layer].index_add_(0, ids_N, torch.ones_like(ids_N))
        self._pending[layer].clear()
        self._pending_rows[layer] = 0
