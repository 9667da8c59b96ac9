"""How many rows each expert of each layer was sent."""

import torch


class ExpertLoad:
    """Counts the rows of this rank's tokens; the sum over the ranks is the model's load."""

    def __init__(self, num_layers: int, num_experts: int) -> None:
        self.rows_LE = torch.zeros(num_layers, num_experts, dtype=torch.int64)

    def count(self, layer: int, expert_ids_TK: torch.Tensor) -> None:
        """Add the rows of one call of one layer."""
        counts_E = torch.bincount(expert_ids_TK.flatten(), minlength=self.rows_LE.shape[1])
        self.rows_LE[layer] += counts_E.to(self.rows_LE.device)
