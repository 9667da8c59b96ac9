"""What every way of moving tokens to their experts promises."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from mixtralkit.moe.routing import Routing
from mixtralkit.ops.expert_mlp import Counts


@dataclass(frozen=True)
class Handle:
    """State of one dispatch, handed back to `combine`; each dispatch has its own kind."""

    routing: Routing


class Dispatch(ABC):
    """Moves rows, the (token, chosen expert) pairs, to the ranks that hold the experts, and their results back.

    Nothing of a call is kept on the object: several may be in flight. All ranks of the group make the same calls in
    the same order. Both directions are differentiable.

    `waits_for_device` is whether the host reads a number from the device on the way. Where it does not, and all ranks
    have the same number of tokens, a call can be recorded in a CUDA graph.
    """

    name: ClassVar[str]
    waits_for_device: ClassVar[bool] = True

    @abstractmethod
    def dispatch(self, x_TD: torch.Tensor, routing: Routing) -> tuple[torch.Tensor, Counts, Handle]:
        """Send this rank's tokens off.

        Returns `rows_RD`, the rows that came for this rank's experts, sorted by local expert and within one by source
        rank and then by token; the number of rows of each local expert; and the handle for `combine`. Counts in a list
        add up to R. Counts on the device, int64 `[e]`, may add up to less: then the rows behind them mean nothing.
        """

    @property
    def recordable(self) -> "Dispatch | None":
        """What takes its place in a step that is recorded as a CUDA graph; None where nothing can."""
        return None if self.waits_for_device else self

    @abstractmethod
    def combine(self, rows_RD: torch.Tensor, handle: Handle) -> torch.Tensor:
        """Send the results of `dispatch`'s rows back and add each token's K of them, weighted.

        The sum is in float32 and does not depend on the layout of the ranks; returns `[T, D]` in the dtype of the rows.
        """

    def most_tokens(self, width: int, dtype: torch.dtype, top_k: int) -> int | None:
        """The most tokens of a rank that a call takes, each `width` numbers of `dtype`; None where it takes any."""
        return None

    def check(self) -> None:  # noqa: B027 - most have nothing to look at
        """Raise what the device has noted of an exchange that it gave up, such as `LateRank`. Waits for nothing.

        For when the results of a step are on the host, before they are believed; most dispatches raise by themselves.
        """
