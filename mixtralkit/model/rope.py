"""Rotary position embeddings in Mistral's layout: neighbouring pairs of a head's elements are rotated together.

Hugging Face's checkpoints pair element i with i + d/2 instead; checkpoint/ permutes their wq and wk while loading.
"""

import torch

from mixtralkit.ops.invariance import map_elements


def rotations(positions_T: torch.Tensor, head_dim: int, theta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine, float32 `[T, 1, d/2]`, of position * theta ** (-2i/d) (RoFormer, arXiv:2104.09864)."""
    exponents = torch.arange(0, head_dim, 2, device=positions_T.device).float() / head_dim
    angles = positions_T.float()[:, None, None] * (1.0 / theta**exponents)
    return map_elements(torch.cos, angles), map_elements(torch.sin, angles)


def rotate(x_THd: torch.Tensor, rotations_T: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotate the pairs (x[2i], x[2i+1]) of each head; float32 inside, the dtype of `x_THd` outside."""
    cos, sin = rotations_T
    even, odd = x_THd.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x_THd.dtype)
