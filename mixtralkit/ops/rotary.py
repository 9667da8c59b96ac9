"""Rotary position embeddings in Mistral's layout: neighbouring pairs of a head's elements are rotated together.

Hugging Face's checkpoints pair element i with i + d/2 instead; checkpoint/ permutes their wq and wk while loading.
"""

from typing import NamedTuple

import torch

from mixtralkit.ops import library
from mixtralkit.ops.invariance import map_elements


class Rotations(NamedTuple):
    """Cosine and sine of each token's angles, float32 `[T, d/2]`."""

    cos: torch.Tensor
    sin: torch.Tensor


def rotations(positions_T: torch.Tensor, head_dim: int, theta: float) -> Rotations:
    """The angles position * theta ** (-2i/d) (RoFormer, arXiv:2104.09864)."""
    ops = library.ops_if_available() if positions_T.is_cpu else None
    if ops is not None:
        return Rotations(*ops.rotations(positions_T, head_dim, theta))
    exponents = torch.arange(0, head_dim, 2, device=positions_T.device).float() / head_dim
    angles = positions_T.float()[:, None] * (1.0 / theta**exponents)
    return Rotations(map_elements(torch.cos, angles), map_elements(torch.sin, angles))


def rotate(x_THd: torch.Tensor, rotations_T: Rotations) -> torch.Tensor:
    """Rotate the pairs (x[2i], x[2i+1]) of each head; float32 inside, the dtype of `x_THd` outside. Differentiable."""
    cos, sin = (angles[:, None] for angles in rotations_T)
    even, odd = x_THd.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x_THd.dtype)
