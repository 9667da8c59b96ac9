"""The expert-parallel mixture of experts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn

from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.dispatch.local import LocalDispatch
from mixtralkit.moe.experts import Experts
from mixtralkit.moe.gates.topk import TopKGate
from mixtralkit.moe.load import ExpertLoad
from mixtralkit.moe.overlap import Overlap
from mixtralkit.moe.placement.routes import Routes
from mixtralkit.moe.routing import Routing
from mixtralkit.moe.timeline import Timeline
from mixtralkit.ops.blocks import moe_block
from mixtralkit.ops.rms_norm import Norm, rms_norm


class MoELayer(nn.Module):
    """Gate, dispatch, experts, combine: this rank's tokens meet experts wherever they are.

    On one rank all four are one call where the extension has it, with the same bits.

    All ranks must call it together, also those without tokens.
    """

    def __init__(
        self,
        *,
        layer: int,
        gate: nn.Module,
        experts: Experts,
        routes: Routes,
        dispatch: Dispatch,
        load: ExpertLoad,
        overlap: Overlap,
        timeline: Timeline,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.gate = gate
        self.experts = experts
        self.routes = routes
        self._dispatch = dispatch
        self.load = load
        self._overlap = overlap
        self.timeline = timeline

    @property
    def why_it_waits(self) -> str | None:
        """Why a call reads numbers from the device, also within `recordable`; None where it does not."""
        if self._overlap.is_on:
            return "communication is overlapped by another thread"
        if type(self.gate) is not TopKGate:
            return "the gate is not Mixtral's own"
        if self.experts.matrices.addresses is None:
            return "weights lie where the kernels cannot read them"
        if type(self._dispatch) is not LocalDispatch and self._dispatch.recordable is None:
            return f"the dispatch {self._dispatch.name} reads counts on the host"
        return None

    @contextmanager
    def recordable(self) -> Iterator[Dispatch]:
        """Send tokens inside so that a CUDA graph can hold it, if there is such a way; with the same results.

        Gives what sends them. Its tensors are read when the graph is replayed, so it must live as long as that.
        """
        dispatch = self._dispatch
        self._dispatch = dispatch.recordable or dispatch
        try:
            yield self._dispatch
        finally:
            self._dispatch = dispatch

    def check(self) -> None:
        """Raise what the device has noted of an exchange that it gave up; layers may have different dispatches."""
        self._dispatch.check()

    def use(self, dispatch: Dispatch) -> None:
        """Send tokens with `dispatch` from the next call on; all ranks must change together."""
        self._dispatch = dispatch

    def place(self, routes: Routes, experts: Experts, dispatch: Dispatch) -> None:
        """Hold other experts and send rows by other routes from the next call on; all ranks must change together."""
        self.routes, self.experts, self._dispatch = routes, experts, dispatch

    def forward(self, x_TD: torch.Tensor, norm: Norm) -> torch.Tensor:
        """`x + mixture(norm(x))`, `[T, D]`, for this rank's T tokens."""
        # These very classes: another gate or dispatch, derived from them, is called. Hooks on gate and experts are not.
        if type(self._dispatch) is LocalDispatch and type(self.gate) is TopKGate:
            found = moe_block(x_TD, norm, self.gate.weight, self.gate.top_k, self.experts.matrices)
            if found is not None:
                out_TD, expert_ids_TK = found
                self.load.count(self.layer, expert_ids_TK)
                self.timeline.count_rows([expert_ids_TK.numel()])
                return out_TD
        return x_TD + self.mixture(rms_norm(x_TD, *norm))

    def mixture(self, x_TD: torch.Tensor) -> torch.Tensor:
        """The weighted sum of each token's experts, `[T, D]`."""
        routing = cast(Routing, self.gate(x_TD))
        self.load.count(self.layer, routing.expert_ids_TK)
        if self._overlap.is_on and not torch.is_grad_enabled():
            parts = self._overlap.cut(x_TD, routing, self.routes)
            return self._overlap.run(parts, self._dispatch, self.experts, self.layer)
        begin = time.perf_counter()
        rows_RD, counts_e, handle = self._dispatch.dispatch(x_TD, routing)
        arrived = time.perf_counter()
        self.timeline.count_rows(counts_e)
        rows_RD = self.experts(rows_RD, counts_e)
        computed = time.perf_counter()
        out_TD = self._dispatch.combine(rows_RD, handle)
        self.timeline.add_in_turn(self.layer, begin, arrived, computed, time.perf_counter())
        return out_TD
