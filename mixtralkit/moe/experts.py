"""The experts that this rank holds of one layer."""

from collections.abc import Mapping
from functools import cached_property
from typing import Protocol, cast

import torch
from torch import nn

from mixtralkit.ops.expert_mlp import Counts, expert_mlp
from mixtralkit.ops.matrices import Matrices
from mixtralkit.ops.quantized_weight import Matrix


class _Weight(Protocol):
    weight: Matrix


class _Swiglu(Protocol):
    w1: _Weight
    w2: _Weight
    w3: _Weight


class Experts(nn.Module):
    """SwiGLU experts, kept under their numbers in the whole model, so that parameter names are the checkpoint's."""

    def __init__(self, experts: Mapping[int, nn.Module]) -> None:
        super().__init__()
        for expert_id, expert in experts.items():
            self.add_module(str(expert_id), expert)

    def forward(self, rows_RD: torch.Tensor, counts_e: Counts) -> torch.Tensor:
        """Apply the i-th local expert to its `counts_e[i]` consecutive rows; same shape and order."""
        return expert_mlp(rows_RD, counts_e, self.matrices)

    @cached_property
    def matrices(self) -> Matrices:
        """The w1, w2, w3 of each expert after the other.

        Looked up at the first call: later, parameters may change in place, and not be replaced by others.
        """
        experts = [cast(_Swiglu, expert) for expert in self.children()]
        return Matrices([matrix.weight for expert in experts for matrix in (expert.w1, expert.w2, expert.w3)])
