"""How many rows each expert of each layer was sent: in all, and of late."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_PENDING = 1024  # rows of a layer that are counted at once
HALF_LIFE = 1024  # tokens of all ranks


class ExpertLoad:
    """Counts the rows of this rank's tokens, on the model's device; the sum over the ranks is the model's load.

    A call is only noted down; counting waits until there are many rows, or somebody looks. Nothing here waits for the
    device.

    The decayed count forgets by tokens, not by steps or seconds: after `half_life` further tokens of all ranks a row
    counts half. So it rests on as many tokens at any batch size, about 1.44 half-lives, which for 2 of 8 experts gives
    their shares to a few percent: what is decided from it every few steps follows the text and not chance. 16 requests
    at a time renew half of it in 64 steps. A long prefill weighs no more than the same tokens in many small steps.
    """

    def __init__(self, num_layers: int, num_experts: int, device: torch.device, half_life: int = HALF_LIFE) -> None:
        self._rows_LE = torch.zeros(num_layers, num_experts, dtype=torch.int64, device=device)
        self._pending: list[list[torch.Tensor]] = [[] for _ in range(num_layers)]
        self._pending_rows = [0] * num_layers
        self._half_life = half_life
        self._decayed_LE = torch.zeros(num_layers, num_experts, dtype=torch.float64, device=device)
        self._settled_LE = self._rows_LE.clone()  # the rows that are in the decayed count
        self._tokens = 0  # of all ranks, marked since then
        self._kept: list[torch.Tensor] | None = None

    def count(self, layer: int, expert_ids_TK: torch.Tensor) -> None:
        """Add the rows of one call of one layer. Does not wait for the device."""
        if self._kept is not None:
            self._kept.append(expert_ids_TK)
            return
        self._pending[layer].append(expert_ids_TK)
        self._pending_rows[layer] += expert_ids_TK.numel()
        if self._pending_rows[layer] >= _PENDING:
            self._count_pending(layer)

    def count_step(self, expert_ids_LTK: torch.Tensor) -> None:
        """Add the rows of one call of every layer. Does not wait for the device, nor keep the ids."""
        ids_LN = expert_ids_LTK.flatten(1)
        self._rows_LE.scatter_add_(1, ids_LN, torch.ones_like(ids_LN))

    @contextmanager
    def kept(self) -> Iterator[list[torch.Tensor]]:
        """Count nothing inside, but collect what `count` is given: for who records a step and repeats it."""
        kept: list[torch.Tensor] = []
        self._kept = kept
        try:
            yield kept
        finally:
            self._kept = None

    def mark_tokens(self, tokens: int) -> None:
        """The steps since the last call took `tokens` of all ranks together through the model.

        To be called between two steps, by all ranks with the same number, so that their decayed counts can be added up.
        """
        self._tokens += tokens
        if 2 * self._tokens >= self._half_life:
            self._settle()

    @property
    def rows_LE(self) -> torch.Tensor:
        """The rows so far, int64, of each layer and expert."""
        self._count_all()
        return self._rows_LE.clone()

    @property
    def decayed_LE(self) -> torch.Tensor:
        """The rows so far, float64, the later ones counting more. Without `mark_tokens` nothing decays."""
        self._settle()
        return self._decayed_LE.clone()

    def _settle(self) -> None:
        """Let the decayed count forget the tokens since it was last settled, and add their rows.

        These count as if they had come evenly over the time, each decaying from its moment on. So it makes no
        difference how the same tokens are divided into steps.
        """
        self._count_all()
        decay = math.log(2) * self._tokens / self._half_life
        weight = -math.expm1(-decay) / decay if decay else 1.0
        self._decayed_LE.mul_(math.exp(-decay)).add_(self._rows_LE - self._settled_LE, alpha=weight)
        self._settled_LE.copy_(self._rows_LE)
        self._tokens = 0

    def _count_all(self) -> None:
        for layer in range(len(self._pending)):
            self._count_pending(layer)

    def _count_pending(self, layer: int) -> None:
        if not self._pending[layer]:
            return
        ids_N = torch.cat([ids.flatten() for ids in self._pending[layer]])
        # torch.bincount would wait for the device.
        self._rows_LE[layer].index_add_(0, ids_N, torch.ones_like(ids_N))
        self._pending[layer].clear()
        self._pending_rows[layer] = 0
