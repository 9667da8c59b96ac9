"""Products with weight matrices, the same bits for a row whatever other rows are in the call."""

import torch

from mixtralkit.ops.invariance import dense_linear
from mixtralkit.ops.matrices import KINDS, Matrices
from mixtralkit.ops.native import native
from mixtralkit.ops.quantized_product import quantized_linear_reference
from mixtralkit.ops.quantized_weight import Matrix, QuantizedWeight
from mixtralkit.ops.rms_norm import Norm, rms_norm
from mixtralkit.ops.triton_kernels import triton_takes


def linear(x_RD: torch.Tensor, weight_FD: Matrix) -> torch.Tensor:
    """`x_RD @ weight_FD.T`, in the dtype of `x_RD`; no bias. Differentiable, unless the weights are quantized.

    Sums are in float32. Where the processor multiplies bfloat16 itself, float32 rows are rounded to bfloat16 for a
    product with bfloat16 weights; docs/kernels.md has the details of every kind of weight.
    """
    return side_by_side(x_RD, Matrices([weight_FD]))


def side_by_side(
    x_RD: torch.Tensor, weights: Matrices, *, norm: Norm | None = None, residual: torch.Tensor | None = None
) -> torch.Tensor:
    """The products with several matrices of as many inputs, one after the other in each row: `[R, sum of outputs]`.

    With a `norm` it is applied to the rows first; a `residual` of the result's shape is added to it.
    """
    others = [tensor for tensor in (norm and norm.weight_D, residual) if tensor is not None]
    if _is_for_triton(x_RD, weights, others):
        from mixtralkit.ops.triton.linear_kernels import quantized_linear

        return quantized_linear(x_RD if norm is None else rms_norm(x_RD, *norm), weights, residual)
    ops, weight_D = native(x_RD, weights, *others), norm and norm.native()
    if ops is not None and weights.native_parts is not None and (norm is None or weight_D is not None):
        eps, residual = norm.eps if norm else 0.0, None if residual is None else residual.contiguous()
        x_RD = x_RD.contiguous()
        found: torch.Tensor = ops.linear(x_RD, *weights.native_parts, weights.outputs, weight_D, eps, residual)
        return found
    x_RD = x_RD if norm is None else rms_norm(x_RD, *norm)
    if _is_joined(x_RD, weights):
        assert weights.joined is not None
        result = _linear(x_RD, weights.joined)
    elif len(weights.matrices) == 1:
        result = _linear(x_RD, weights.matrices[0])
    else:
        result = torch.cat([linear(x_RD, weight) for weight in weights.matrices], dim=1)
    return result if residual is None else residual + result


def _is_for_triton(x_RD: torch.Tensor, weights: Matrices, others: list[torch.Tensor]) -> bool:
    """Whether the quantized product on a GPU takes the call; dense ones are torch's."""
    if not isinstance(weights.matrices[0], QuantizedWeight) or not triton_takes(x_RD, *others):
        return False
    return x_RD.dtype in KINDS and weights.addresses is not None


def _is_joined(x_RD: torch.Tensor, weights: Matrices) -> bool:
    """Whether several matrices are one product on a GPU; its last bits may differ from those of one product each."""
    wants_gradients = torch.is_grad_enabled() and (x_RD.requires_grad or weights.requires_grad)
    return x_RD.is_cuda and len(weights.matrices) > 1 and not wants_gradients and weights.joined is not None


def _linear(x_RD: torch.Tensor, weight_FD: Matrix) -> torch.Tensor:
    if isinstance(weight_FD, QuantizedWeight):
        return quantized_linear_reference(x_RD, weight_FD).to(x_RD.dtype)
    return dense_linear(x_RD, weight_FD.to(x_RD.dtype))
