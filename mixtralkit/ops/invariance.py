"""What makes a row's bits independent of the rest of the call, with torch's own CPU kernels.

Some habits of those kernels stand in the way:

- BLAS takes another order of additions for a few rows than for many, and with many threads for odd numbers of outputs.
  Both are padded to a multiple of `ROW_TILE`.
- Elementwise kernels compute the last elements of a block, and where threads divide the work, with scalar instead of
  vector functions, and the two round exp, cos and sin differently. Elements are mapped in pieces too small to be
  divided and without a remainder.
- Attention gives each thread a part of one buffer, aligned as the number of queries has it, and BLAS adds in another
  order where it is aligned otherwise. Queries are padded to `ROW_TILE`, which makes the parts whole cache lines.
- Attention of a single head runs BLAS with all threads, of several heads with one each. A single head is doubled.

That this suffices is an observation, not a documented property of torch; the tests check it on the machine at hand, for
any number of rows and for up to 16 threads. Known to be missing: in half precision on CPUs with AMX torch chooses its
attention kernel by the number of threads.

Other devices, and training, promise no such thing and get the plain functions.
"""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F

ROW_TILE = 16
_PIECE = 16_384  # elements; torch divides an elementwise call among threads from 32,768 on
_VECTOR_BLOCK = 64  # elements; two vectors of 512 bits of the narrowest dtype


class MayRequireGrad(Protocol):
    """A tensor, or several that count as one."""

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient of it is wanted."""


def is_promised(x: torch.Tensor, *others: MayRequireGrad) -> bool:
    """Whether a call with these tensors has to be independent of its other rows: on the CPU, without gradients."""
    if not x.is_cpu:
        return False
    return not torch.is_grad_enabled() or not (x.requires_grad or any(other.requires_grad for other in others))


def as_activations(x: torch.Tensor) -> torch.Tensor:
    """`x` in the dtype that activations have where it is: float32 on the CPU without gradients, elsewhere its own."""
    return x.float() if is_promised(x) else x


def pad_rows(x_RD: torch.Tensor, value: float = 0) -> torch.Tensor:
    """`x_RD`, or a stack of them, with rows of `value` below, up to a multiple of `ROW_TILE`."""
    padding = -x_RD.shape[-2] % ROW_TILE
    return F.pad(x_RD, (0, 0, 0, padding), value=value) if padding else x_RD


def dense_linear(x_RD: torch.Tensor, weight_FD: torch.Tensor) -> torch.Tensor:
    """`x_RD @ weight_FD.T`, both of one dtype."""
    if not is_promised(x_RD, weight_FD):
        return F.linear(x_RD, weight_FD)
    return F.linear(pad_rows(x_RD), pad_rows(weight_FD))[: x_RD.shape[0], : weight_FD.shape[0]]


def map_elements(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """`function(x)` for an elementwise function, every element computed by the same vector instructions."""
    if not is_promised(x):
        return function(x)
    flat = F.pad(x.flatten(), (0, -x.numel() % _VECTOR_BLOCK))
    mapped = torch.cat([function(piece) for piece in flat.split(_PIECE)])
    return mapped[: x.numel()].view(x.shape)
