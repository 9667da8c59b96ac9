"""RMSNorm against its formula in float64."""

import pytest
import torch

from mixtralkit.ops.rms_norm import rms_norm


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("weight_dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@torch.no_grad()
def test_rows_have_unit_mean_square_times_the_weight(
    scale: float, dtype: torch.dtype, weight_dtype: torch.dtype
) -> None:
    """Two roundings to dtype, and the weight's. 1e3 squared overflows float16: the square must be taken in float32."""
    weight = torch.randn(18).to(weight_dtype)
    x = (torch.randn(5, 18) * scale).to(dtype)
    exact = x.double() / torch.sqrt(x.double().square().mean(-1, keepdim=True) + 1e-5) * weight.double()
    found = rms_norm(x, weight, 1e-5)
    assert found.dtype == dtype
    assert torch.allclose(found.double(), exact, rtol=3 * torch.finfo(dtype).eps, atol=1e-7)
