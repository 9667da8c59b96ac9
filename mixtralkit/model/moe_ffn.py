"""The mixture of experts as one process computes it: the definition, and the oracle for moe/.

parallelize.py takes these modules apart and spreads the experts over the ranks.
"""

import torch
from torch import nn

from mixtralkit.model.linear_layer import Linear
from mixtralkit.ops.expert_mlp import swiglu
from mixtralkit.ops.gate import topk_gate
from mixtralkit.ops.matrices import Matrices
from mixtralkit.ops.permute import weighted_sum
from mixtralkit.ops.rms_norm import Norm, rms_norm


class Expert(nn.Module):
    """One SwiGLU MLP: w1 and w3 are `[F, D]`, w2 is `[D, F]`."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.w1 = Linear(dim, hidden_dim)
        self.w2 = Linear(hidden_dim, dim)
        self.w3 = Linear(dim, hidden_dim)

    def forward(self, x_RD: torch.Tensor) -> torch.Tensor:
        """`[R, D] -> [R, D]`."""
        return swiglu(x_RD, Matrices([self.w1.weight, self.w2.weight, self.w3.weight]))


class MoeFfn(nn.Module):
    """Sends each token to `top_k` of `num_experts` experts and adds up their weighted answers."""

    def __init__(self, *, dim: int, hidden_dim: int, num_experts: int, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.gate = Linear(dim, num_experts)
        self.experts = nn.ModuleList(Expert(dim, hidden_dim) for _ in range(num_experts))

    def forward(self, x_TD: torch.Tensor, norm: Norm) -> torch.Tensor:
        """`x + mixture(norm(x))`, `[T, D]`."""
        return x_TD + self.mixture(rms_norm(x_TD, *norm))

    def mixture(self, x_TD: torch.Tensor) -> torch.Tensor:
        """The weighted sum of each token's experts, `[T, D]`; in float32 and in the order of the gate's top-k."""
        expert_ids_TK, weights_TK = topk_gate(self.gate(x_TD), self.top_k)
        rows_TKD = x_TD.new_zeros(*expert_ids_TK.shape, x_TD.shape[1])
        for expert_id, expert in enumerate(self.experts):
            tokens, places = torch.where(expert_ids_TK == expert_id)
            rows_TKD[tokens, places] = expert(x_TD[tokens])
        return weighted_sum(rows_TKD, weights_TK).to(x_TD.dtype)
