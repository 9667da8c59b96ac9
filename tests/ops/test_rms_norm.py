"""RMSNorm against its formula in float64."""

import pytest
import torch

from mixtralkit.model.norm import RMSNorm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@torch.no_grad()
def test_rows_have_unit_mean_square_times_the_weight(scale: float, dtype: torch.dtype) -> None:
    """Two roundings to dtype. 1e3 squared overflows float16, so the square must be taken in float32."""
    norm = RMSNorm(16, 1e-5)
    norm.weight.copy_(torch.randn(16))
    norm.to(dtype)
    x = (torch.randn(5, 16) * scale).to(dtype)
    exact = x.double() / torch.sqrt(x.double().square().mean(-1, keepdim=True) + 1e-5) * norm.weight.double()
    assert norm(x).dtype == dtype
    assert torch.allclose(norm(x).double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=1e-7)
