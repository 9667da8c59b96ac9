"""Mixtral's own gate."""

import torch
from torch import nn

from mixtralkit.moe.routing import Routing
from mixtralkit.ops.gate import linear_gate


class TopKGate(nn.Module):
    """Sends each token to the `top_k` experts whose logits are highest."""

    def __init__(self, weight_ED: nn.Parameter, top_k: int) -> None:
        super().__init__()
        self.weight = weight_ED
        self.top_k = top_k

    def forward(self, x_TD: torch.Tensor) -> Routing:
        """The routing of every token of `x_TD`."""
        return Routing(*linear_gate(x_TD, self.weight, self.top_k))
