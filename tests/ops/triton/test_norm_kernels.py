"""The norm's kernel against the formula in float64."""

import pytest
import torch

from mixtralkit.ops.rms_norm import rms_norm

HALF = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("weight_dtype", [torch.float32, *HALF])
@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
@pytest.mark.parametrize(("tokens", "dim", "scale"), [(0, 8, 1.0), (1, 1, 1.0), (3, 18, 1e-3), (5, 700, 1e3)])
def test_rows_have_unit_mean_square_times_the_weight(
    kernels: torch.device, tokens: int, dim: int, scale: float, dtype: torch.dtype, weight_dtype: torch.dtype
) -> None:
    """Two roundings to dtype, and the weight's. 1e3 squared overflows float16: the square must be taken in float32."""
    weight = torch.randn(dim).to(weight_dtype)
    x = (torch.randn(tokens, dim) * scale).to(dtype)
    exact = x.double() / torch.sqrt(x.double().square().mean(-1, keepdim=True) + 1e-5) * weight.double()
    found = rms_norm(x.to(kernels), weight.to(kernels), 1e-5).cpu()
    assert (found.dtype, found.shape) == (dtype, x.shape)
    assert torch.allclose(found.double(), exact, rtol=3 * torch.finfo(dtype).eps, atol=1e-7)


def test_rows_that_do_not_lie_one_after_the_other(kernels: torch.device) -> None:
    x, weight = torch.randn(6, 4, device=kernels).T, torch.randn(6, 2, device=kernels)[:, 0]
    assert torch.equal(rms_norm(x, weight, 1e-5), rms_norm(x.contiguous(), weight.contiguous(), 1e-5))


def test_rows_are_rounded_before_the_weight(kernels: torch.device) -> None:
    """Rounded once, every fourth product would be another; float32 sums move one in thousands."""
    weight, x = torch.randn(700).half(), torch.randn(8, 700).half()
    normed = (x.double() / torch.sqrt(x.double().square().mean(-1, keepdim=True) + 1e-5)).half()
    found = rms_norm(x.to(kernels), weight.to(kernels), 1e-5).cpu()
    assert (found != normed * weight).double().mean() < 0.005
