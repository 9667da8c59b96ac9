"""The auxiliary loss that keeps all experts at work, and the observation of the gates that it needs."""

from collections.abc import Sequence
from types import TracebackType

import torch
from torch import nn

GATE_SUFFIX = "feed_forward.gate"


def load_balance_loss(logits_LTE: Sequence[torch.Tensor], top_k: int) -> torch.Tensor:
    """The mean over the layers of `E * sum_e(share of rows of e * mean probability of e)`: a float32 scalar.

    It is 1 in perfect balance and E / K when the same K experts get everything. The loss of Switch Transformers
    (arXiv:2101.03961, equation 4) with the top-k of Mixtral: the shares count all K choices and add up to 1.
    Differentiable through the probabilities; the shares are constants.
    """
    return torch.stack([_layer_loss(logits_TE, top_k) for logits_TE in logits_LTE]).mean()


def row_shares(logits_TE: torch.Tensor, top_k: int) -> torch.Tensor:
    """Which part of the T*K rows each expert gets, float32 `[E]`."""
    chosen_N = logits_TE.detach().topk(top_k, dim=-1).indices.flatten()
    return torch.bincount(chosen_N, minlength=logits_TE.shape[1]).float() / chosen_N.numel()


def _layer_loss(logits_TE: torch.Tensor, top_k: int) -> torch.Tensor:
    probabilities_E = logits_TE.float().softmax(dim=-1).mean(dim=0)
    return logits_TE.shape[1] * (row_shares(logits_TE, top_k) * probabilities_E).sum()


class GateWatch:
    """Sees the logits of every gate of a model while the `with` block lasts; the model's code is untouched."""

    def __init__(self, model: nn.Module) -> None:
        self._gates = [module for name, module in model.named_modules() if name.endswith(GATE_SUFFIX)]
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._logits: list[torch.Tensor] = []

    def __enter__(self) -> "GateWatch":
        self._handles = [gate.register_forward_hook(self._keep) for gate in self._gates]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def take(self) -> list[torch.Tensor]:
        """The logits `[T, E]` of each layer since the last call, in the order of the layers."""
        logits, self._logits = self._logits, []
        return logits

    def _keep(self, module: nn.Module, inputs: object, logits_TE: torch.Tensor) -> None:
        self._logits.append(logits_TE)
