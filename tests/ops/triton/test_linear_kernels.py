"""Products with quantized matrices against what their codes stand for, multiplied in float64."""

from collections.abc import Iterator, Sequence

import pytest
import torch

from mixtralkit.ops.linear import side_by_side
from mixtralkit.ops.matrices import Matrices
from mixtralkit.ops.quantize import quantize
from mixtralkit.ops.quantized_weight import QuantizedWeight, QuantKind
from mixtralkit.ops.rms_norm import Norm


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def _quantized(outputs: int, inputs: int, kind: QuantKind, device: torch.device) -> QuantizedWeight:
    made = quantize(torch.randn(outputs, inputs) * inputs**-0.5, kind)
    parts = {name: part.to(device) for name, part in made.parts.items()}
    return QuantizedWeight(parts["codes"], parts["scales"], parts.get("mins"), outputs, inputs, kind)


def _expected(x: torch.Tensor, weights: Sequence[QuantizedWeight]) -> torch.Tensor:
    return torch.cat([x.double() @ weight.dequantize().double().T for weight in weights], dim=1)


@pytest.mark.parametrize("kind", QuantKind)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"),
    [(0, 64, (16,)), (1, 64, (1,)), (3, 192, (48, 16, 16)), (17, 320, (70, 5)), (130, 128, (20, 33, 16, 40))],
)
def test_each_matrix_for_itself(
    kernels: torch.device, rows: int, inputs: int, outputs: tuple[int, ...], dtype: torch.dtype, kind: QuantKind
) -> None:
    """Results are of the order of 1: float32 sums of up to 320 products; in half precision the weights are rounded to
    it on the way, which a sum evens out, and the result.
    """
    weights = [_quantized(n, inputs, kind, kernels) for n in outputs]
    x = torch.randn(rows, inputs, device=kernels).to(dtype)
    found = side_by_side(x, Matrices(weights))
    assert (found.dtype, found.shape) == (dtype, (rows, sum(outputs)))
    tolerance = 1e-5 if dtype == torch.float32 else 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), _expected(x, weights), rtol=0, atol=tolerance)


def test_every_fp8_number(kernels: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """All 254 that are finite, by way of both types, each multiplied by 1 and by a scale that is a power of two."""
    import triton.language as tl

    from mixtralkit.ops.triton import weight_tile_kernels

    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)
    codes = codes[codes.float().isfinite()]
    diagonal = torch.zeros(254, 256)
    diagonal[:, :254] = torch.diag(codes.float())
    scales = 2.0 ** -torch.arange(254.0).remainder(9)
    parts = (diagonal.to(torch.float8_e4m3fn).to(kernels), scales.to(kernels), None)
    weights = Matrices([QuantizedWeight(*parts, 254, 256, QuantKind.FP8)])
    expected = codes.double() * scales.double()
    for dtype in (tl.uint8, tl.float8e4nv):
        if torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 9) and dtype != tl.uint8:
            continue
        monkeypatch.setattr(weight_tile_kernels, "fp8_type", lambda device, dtype=dtype: dtype)
        found = side_by_side(torch.ones(1, 256, device=kernels), weights)
        assert torch.equal(found[0].cpu().double(), expected)


def test_with_norm_and_residual(kernels: torch.device) -> None:
    """Float32: the tolerance is some units in the last place of results of the order of 1."""
    weights = [_quantized(n, 64, QuantKind.INT8, kernels) for n in (20, 30)]
    x, residual = torch.randn(5, 64, device=kernels), torch.randn(50, 5, device=kernels).T
    norm = Norm(torch.rand(64, device=kernels), 1e-5)
    found = side_by_side(x, Matrices(weights), norm=norm, residual=residual)
    normed = x.double() / torch.sqrt(x.double().square().mean(-1, keepdim=True) + 1e-5) * norm.weight_D.double()
    torch.testing.assert_close(found.double(), residual.double() + _expected(normed, weights), rtol=0, atol=1e-5)
