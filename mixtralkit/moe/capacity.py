"""How many rows an expert takes, where a capacity is set, and which rows those are. Pure functions.

DeepSpeed-MoE's definition (its top-k gating): a factor times the rows that an even load would bring, but never less
than a minimum. It goes by call and by source rank, so nothing has to be agreed on, and what is dropped depends on the
rest of the batch, on the number of ranks and, with a factor for cold experts, on the placement.
"""

import math
from dataclasses import dataclass

import torch

from mixtralkit.errors import UsageError
from mixtralkit.moe.routing import Routing


@dataclass(frozen=True)
class Capacity:
    """An expert takes at most `max(minimum, ceil(factor * T * K / E))` rows of a rank's T tokens in a call.

    `cold_factor` is for the experts that the rank does not hold itself; None: they have `factor` too. Without a
    `factor` the others have no limit. Raises `UsageError` for a factor that is not above 0, or a minimum below 0.
    """

    factor: float | None
    minimum: int = 0
    cold_factor: float | None = None

    def __post_init__(self) -> None:
        for name, factor in (("capacity factor", self.factor), ("capacity factor of cold experts", self.cold_factor)):
            if factor is not None and not 0 < factor < math.inf:
                raise UsageError(f"the {name} is {factor}; it must be a number above 0, such as 1.25")
        if self.minimum < 0:
            raise UsageError(f"the minimum capacity is {self.minimum} rows; it must be 0 or more")

    def limits(self, tokens: int, top_k: int, held_E: torch.Tensor) -> torch.Tensor:
        """How many rows of `tokens` tokens each expert takes, int64 `[E]`; `held_E` (bool) marks the rank's own."""
        cold_factor = self.factor if self.cold_factor is None else self.cold_factor
        held, cold = (self._limit(factor, tokens, top_k, held_E.numel()) for factor in (self.factor, cold_factor))
        return torch.where(held_E, held, cold)

    def _limit(self, factor: float | None, tokens: int, top_k: int, num_experts: int) -> int:
        if factor is None:
            return tokens  # a token goes to an expert once at most
        return max(self.minimum, math.ceil(factor * tokens * top_k / num_experts))


def rows_kept(routing: Routing, limits_E: torch.Tensor) -> torch.Tensor:
    """Which of the rows their experts take: bool `[T, K]`, of each expert at most `limits_E[e]` (int64).

    Those with the highest weights are kept; of equal ones, those of the earlier tokens. Does not wait for the device.
    """
    ids_N, weights_N = routing.expert_ids_TK.flatten(), routing.weights_TK.detach().flatten()
    by_weight_N = weights_N.argsort(descending=True, stable=True)
    sorted_ids_N, order_N = ids_N[by_weight_N].sort(stable=True)
    first_N = torch.searchsorted(sorted_ids_N, sorted_ids_N)
    taken_N = torch.arange(ids_N.numel(), device=ids_N.device) - first_N < limits_E[sorted_ids_N]
    return torch.empty_like(taken_N).index_copy(0, by_weight_N[order_N], taken_N).view(routing.expert_ids_TK.shape)
