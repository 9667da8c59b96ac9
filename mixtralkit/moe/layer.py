"""The expert-parallel mixture of experts."""

from typing import cast

import torch
from torch import nn

from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.experts import Experts
from mixtralkit.moe.load import ExpertLoad
from mixtralkit.moe.routing import Routing


class MoELayer(nn.Module):
    """Gate, dispatch, experts, combine: this rank's tokens meet experts wherever they are.

    All ranks must call it together, also those without tokens.
    """

    def __init__(self, *, layer: int, gate: nn.Module, experts: Experts, dispatch: Dispatch, load: ExpertLoad) -> None:
        super().__init__()
        self.layer = layer
        self.gate = gate
        self.experts = experts
        self._dispatch = dispatch
        self._load = load

    def use(self, dispatch: Dispatch) -> None:
        """Send tokens with `dispatch` from the next call on; all ranks must change together."""
        self._dispatch = dispatch

    def forward(self, x_TD: torch.Tensor) -> torch.Tensor:
        """`[T, D] -> [T, D]` for this rank's T tokens."""
        routing = cast(Routing, self.gate(x_TD))
        self._load.count(self.layer, routing.expert_ids_TK)
        return self._dispatch.run(x_TD, routing, self.experts)
