"""A gate's answer."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Routing:
    """Which experts each token goes to, best first, and with what weights.

    `expert_ids_TK` is int64 and holds ids of the whole model's experts; `weights_TK` is float32.
    """

    expert_ids_TK: torch.Tensor
    weights_TK: torch.Tensor
