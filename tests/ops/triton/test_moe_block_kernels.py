"""A mixture of experts in kernels against its definition in float64; and nothing in it waits for the device."""

from collections.abc import Iterator

import pytest
import torch

from mixtralkit.ops.blocks import moe_block
from mixtralkit.ops.matrices import Matrices
from mixtralkit.ops.quantize import quantize
from mixtralkit.ops.quantized_weight import Matrix, QuantizedWeight, QuantKind
from mixtralkit.ops.rms_norm import Norm

DIM, HIDDEN = 64, 128


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def _norm(dtype: torch.dtype, device: torch.device) -> Norm:
    return Norm((1 + torch.rand(DIM)).to(device, dtype), 1e-5)


def _experts(number: int, kind: torch.dtype | QuantKind, device: torch.device) -> Matrices:
    shapes = [(HIDDEN, DIM), (DIM, HIDDEN), (HIDDEN, DIM)] * number
    return Matrices([_matrix(torch.randn(shape) * shape[1] ** -0.5, kind, device) for shape in shapes])


def _matrix(dense: torch.Tensor, kind: torch.dtype | QuantKind, device: torch.device) -> Matrix:
    if not isinstance(kind, QuantKind):
        return dense.to(device, kind)
    made = quantize(dense, kind)
    parts = {name: part.to(device) for name, part in made.parts.items()}
    return QuantizedWeight(parts["codes"], parts["scales"], parts.get("mins"), made.outputs, made.inputs, kind)


def _exact(weight: Matrix) -> torch.Tensor:
    return (weight.dequantize() if isinstance(weight, QuantizedWeight) else weight).cpu().double()


def _expected(
    x_TD: torch.Tensor, norm: Norm, gate_ED: torch.Tensor, ids_TK: torch.Tensor, experts: Matrices
) -> torch.Tensor:
    """With the experts in `ids_TK`, each token through each of its own by itself."""
    x_TD, w = x_TD.cpu().double(), [_exact(weight) for weight in experts.matrices]
    normed_TD = x_TD / torch.sqrt(x_TD.square().mean(-1, keepdim=True) + norm.eps) * _exact(norm.weight_D)
    weights_TK = torch.softmax((normed_TD @ _exact(gate_ED).T).gather(1, ids_TK.cpu()), dim=-1)
    out_TD = x_TD.clone()
    for token, ids in enumerate(ids_TK.tolist()):
        for k, e in enumerate(ids):
            hidden_F = torch.nn.functional.silu(w[3 * e] @ normed_TD[token]) * (w[3 * e + 2] @ normed_TD[token])
            out_TD[token] += weights_TK[token, k] * (w[3 * e + 1] @ hidden_F)
    return out_TD


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.float16, QuantKind.INT4),
        (torch.bfloat16, QuantKind.FP8),
    ],
)
@pytest.mark.parametrize(("tokens", "experts", "top_k"), [(0, 5, 2), (1, 8, 2), (3, 1, 1), (17, 5, 3)])
def test_the_definition(
    kernels: torch.device, tokens: int, experts: int, top_k: int, dtype: torch.dtype, kind: torch.dtype | QuantKind
) -> None:
    """Outputs are up to about 6, where a rounding is 2 eps, and 4 in the interpreter, which cuts off what bfloat16 does
    not hold. The norm, the logits, hidden rows, each expert's result and the sum are rounded.
    """
    x, norm = torch.randn(tokens, DIM).to(kernels, dtype), _norm(dtype, kernels)
    weights, gate = _experts(experts, kind, kernels), (torch.randn(experts, DIM) * DIM**-0.5).to(kernels, dtype)
    found = moe_block(x, norm, gate, top_k, weights)
    assert found is not None
    out, ids = found
    assert (out.dtype, out.shape, ids.dtype, ids.shape) == (dtype, x.shape, torch.int64, (tokens, top_k))
    expected, tolerance = _expected(x, norm, gate, ids, weights), 20 * torch.finfo(dtype).eps
    torch.testing.assert_close(out.cpu().double(), expected, rtol=0, atol=tolerance)


def test_the_best_experts_are_taken(kernels: torch.device) -> None:
    x, gate = torch.randn(9, DIM, device=kernels), torch.randn(5, DIM, device=kernels)
    norm = _norm(torch.float32, kernels)
    found = moe_block(x, norm, gate, 2, _experts(5, torch.float32, kernels))
    assert found is not None
    normed = x.double() / x.double().square().mean(-1, keepdim=True).sqrt() * norm.weight_D.double()
    assert torch.equal(found[1], (normed @ gate.double().T).topk(2).indices)


def test_matrices_of_several_kinds_are_left_to_other_ways(kernels: torch.device) -> None:
    x, gate = torch.randn(3, DIM, device=kernels), torch.randn(2, DIM, device=kernels)
    mixed = [*_experts(1, torch.float32, kernels).matrices, *_experts(1, QuantKind.INT8, kernels).matrices]
    assert moe_block(x, _norm(torch.float32, kernels), gate, 1, Matrices(mixed)) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="only a GPU has graphs")
@pytest.mark.parametrize("tokens", [1, 600])
def test_a_captured_call_follows_its_input(kernels: torch.device, tokens: int) -> None:
    """Capture fails where anything waits for the device; and the replay must route by the rows it then finds."""
    weights, norm = _experts(8, torch.bfloat16, kernels), _norm(torch.bfloat16, kernels)
    gate = torch.randn(8, DIM).to(kernels, torch.bfloat16)
    x, other = torch.randn(2, tokens, DIM).to(kernels, torch.bfloat16)
    x = x.clone()
    warm_up = torch.cuda.Stream()
    with torch.cuda.stream(warm_up):
        moe_block(x, norm, gate, 2, weights)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = moe_block(x, norm, gate, 2, weights)
    x.copy_(other)
    graph.replay()
    expected = moe_block(other, norm, gate, 2, weights)
    assert captured is not None
    assert expected is not None
    assert all(torch.equal(a, b) for a, b in zip(captured, expected, strict=True))
