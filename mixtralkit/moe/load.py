"""How many rows each expert of each layer was sent."""

import torch


class ExpertLoad:
    """Counts the rows of this rank's tokens, on the model's device; the sum over the ranks is the model's load."""

    def __init__(self, num_layers: int, num_experts: int, device: torch.device) -> None:
        self.rows_LE = torch.zeros(num_layers, num_experts, dtype=torch.int64, device=device)

    def count(self, layer: int, expert_ids_TK: torch.Tensor) -> None:
        """Add the rows of one call of one layer. Does not wait for the device, as `torch.bincount` would."""
        ids_N = expert_ids_TK.flatten()
        self.rows_LE[layer].index_add_(0, ids_N, torch.ones_like(ids_N))
