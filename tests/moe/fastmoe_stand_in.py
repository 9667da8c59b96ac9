"""Stands in for FastMoE, ONLY in tests: the real one needs a GPU to be built, and has not been run with this package.

Written from FastMoE's documentation of `FMoE` and of its gates, it follows how those call what they are given: which
arguments, in which order, with which shapes and dtypes; it computes with torch's operators, and exchanges rows over
torch's default group. What it refuses is what FastMoE's kernels do not check.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn


class BaseGate(nn.Module):
    """`fmoe.gates.base_gate.BaseGate`."""

    def __init__(self, num_expert: int, world_size: int) -> None:
        super().__init__()
        self.tot_expert = num_expert * world_size


class FMoE(nn.Module):
    """`fmoe.FMoE`, from version 1.1 on."""

    gives_counts = True  # to experts; 1.0 gives rows alone

    def __init__(
        self,
        num_expert: int = 32,
        d_model: int = 1024,
        world_size: int = 1,
        mp_group: object = None,
        slice_group: object = None,
        moe_group: object = None,
        top_k: int = 2,
        gate: Callable[[int, int, int, int], nn.Module] | None = None,
        expert: Callable[[int], nn.Module] | None = None,
        gate_hook: object = None,
        mask: object = None,
        mask_dict: object = None,
        gate_bias: bool = True,
    ) -> None:
        super().__init__()
        assert moe_group is None, "this one knows the default group only"
        assert gate is not None
        assert issubclass(cast(type, gate), BaseGate), "FastMoE asks for subclasses"
        assert expert is not None
        self.num_expert, self.world_size, self.top_k = num_expert, world_size, top_k
        self.experts = nn.ModuleList([expert(d_model) for _ in range(num_expert)])
        self.gate = gate(d_model, num_expert, world_size, top_k)

    def forward(self, x_TD: torch.Tensor) -> torch.Tensor:
        """Gate, scatter, experts, gather, and the sum weighted by the gate's scores."""
        ids_TK, scores_TK = self.gate(x_TD)
        assert x_TD.shape[0] > 0, "kernels would be launched over no tokens"
        assert x_TD.is_contiguous()
        assert ids_TK.is_contiguous()
        assert ids_TK.dtype == torch.int64
        assert ids_TK.shape == scores_TK.shape == (x_TD.shape[0], self.top_k)
        order_N = torch.argsort(ids_TK.flatten(), stable=True)
        counts_E = torch.bincount(ids_TK.flatten(), minlength=self.num_expert * self.world_size)
        rows_ND = self._through_experts(x_TD[order_N // self.top_k], counts_E)
        home_ND = torch.empty_like(rows_ND)
        home_ND[order_N] = rows_ND
        home_TKD = home_ND.view(-1, self.top_k, x_TD.shape[1])
        return torch.bmm(scores_TK.view(-1, 1, self.top_k), home_TKD).reshape(x_TD.shape)

    def _through_experts(self, rows_ND: torch.Tensor, counts_E: torch.Tensor) -> torch.Tensor:
        """Rows in the order of all experts, to the ranks that hold them and back."""
        counts_We = counts_E.view(self.world_size, self.num_expert)
        came_We = _exchange(counts_We, [1] * self.world_size, [1] * self.world_size)
        sent, received = counts_We.sum(1).tolist(), came_We.sum(1).tolist()
        rows_RD = _exchange(rows_ND, sent, received)
        by_expert_R = torch.arange(self.num_expert).repeat(self.world_size).repeat_interleave(came_We.flatten())
        order_R = torch.argsort(by_expert_R, stable=True)
        results_RD = torch.empty_like(rows_RD)
        results_RD[order_R] = self._compute(rows_RD[order_R], came_We.sum(0))
        return _exchange(results_RD, received, sent)

    def _compute(self, rows_RD: torch.Tensor, counts_e: torch.Tensor) -> torch.Tensor:
        results = []
        for expert, count, rows in zip(self.experts, counts_e, rows_RD.split(counts_e.tolist()), strict=True):
            results.append(expert(rows, torch.tensor([count])) if self.gives_counts else expert(rows))
        return torch.cat(results)


class OldFMoE(FMoE):
    """Of version 1.0."""

    gives_counts = False


def _exchange(rows: torch.Tensor, sent: list[int], received: list[int]) -> torch.Tensor:
    if len(sent) == 1:
        return rows
    found = rows.new_empty(sum(received), rows.shape[1])
    # Gloo has no all-to-all of unequal parts for every torch, so each rank gathers all and takes its own.
    gathered: list[Any] = [None] * len(sent)
    dist.all_gather_object(gathered, [part.clone() for part in rows.split(sent)])
    torch.cat([parts[dist.get_rank()] for parts in gathered], out=found)
    return found


@contextmanager
def installed(layer: type[FMoE] = FMoE) -> Iterator[None]:
    """Have `import fmoe` find this."""
    fmoe, gates, base_gate = ModuleType("fmoe"), ModuleType("fmoe.gates"), ModuleType("fmoe.gates.base_gate")
    fmoe.FMoE, base_gate.BaseGate = layer, BaseGate  # type: ignore[attr-defined]
    names = {module.__name__: module for module in (fmoe, gates, base_gate)}
    sys.modules.update(names)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
