"""Half a block in one call is what its parts are, bit for bit."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mixtralkit.ops import library
from mixtralkit.ops.blocks import attention_block, moe_block
from mixtralkit.ops.cached_attention import cached_attention
from mixtralkit.ops.expert_mlp import expert_mlp
from mixtralkit.ops.expert_sort import expert_sort
from mixtralkit.ops.gate import linear_gate, topk_gate
from mixtralkit.ops.linear import linear, side_by_side
from mixtralkit.ops.matrices import NOT_NATIVE, Matrices
from mixtralkit.ops.permute import sum_rows, take_rows
from mixtralkit.ops.quantize import quantize
from mixtralkit.ops.quantized_weight import Matrix, QuantKind
from mixtralkit.ops.rms_norm import Norm, rms_norm
from mixtralkit.ops.rotary import rotations

KINDS = (torch.float32, torch.bfloat16, *QuantKind)
DIM, HEADS, KV_HEADS, HEAD_DIM, HIDDEN, EXPERTS = 128, 4, 2, 32, 192, 5


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def matrix(outputs: int, inputs: int, kind: torch.dtype | QuantKind) -> Matrix:
    dense = torch.randn(outputs, inputs) * inputs**-0.5
    return quantize(dense, kind) if isinstance(kind, QuantKind) else dense.to(kind)


def norm(dtype: torch.dtype) -> Norm:
    return Norm(torch.rand(DIM).to(dtype), 1e-5)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("segments", [[], [(0, 1)], [(0, 7), (0, 2)]])
@pytest.mark.usefixtures("way")
def test_attention(segments: list[tuple[int, int]], kind: torch.dtype | QuantKind, window: int | None) -> None:
    qkv = Matrices([matrix(heads * HEAD_DIM, DIM, kind) for heads in (HEADS, KV_HEADS, KV_HEADS)])
    out = Matrices([matrix(DIM, HEADS * HEAD_DIM, kind)])
    segments_B2 = torch.tensor(segments, dtype=torch.int64).view(-1, 2)
    tables_BM = torch.tensor([[3, 0], [2, 1]])[: len(segments)]
    positions = torch.cat([torch.arange(length) + start for start, length in segments] or [torch.arange(0)])
    x, before, angles = torch.randn(len(positions), DIM), norm(torch.bfloat16), rotations(positions, HEAD_DIM, 1e6)
    shape = (4, KV_HEADS, 4, HEAD_DIM)
    caches = [(torch.zeros(shape).bfloat16(), torch.zeros(shape).bfloat16()) for _ in range(2)]
    options: dict[str, Any] = {"num_heads": HEADS, "sliding_window": window}
    found = attention_block(x, before, qkv, out, *caches[0], segments_B2, tables_BM, angles, **options)
    qkv_TX = side_by_side(rms_norm(x, *before), qkv)
    heads = cached_attention(qkv_TX, *caches[1], segments_B2, tables_BM, angles, **options)
    assert torch.equal(found, x + side_by_side(heads, out))
    assert all(torch.equal(a, b) for a, b in zip(*caches, strict=True))


@pytest.mark.skipif(library.why_not() is not None, reason=f"no native kernels: {library.why_not()}")
def test_a_wrong_output_matrix_leaves_the_cache_as_it_was() -> None:
    qkv = [torch.randn((HEADS + 2 * KV_HEADS) * HEAD_DIM, DIM)]
    keys, values = (torch.zeros(1, KV_HEADS, 8, HEAD_DIM) for _ in range(2))
    angles = rotations(torch.arange(1), HEAD_DIM, 1e6)
    call: tuple[Any, ...] = (torch.randn(1, DIM), torch.rand(DIM), 1e-5, qkv, [], [], [len(qkv[0])], keys, values)
    wrong: list[list[torch.Tensor]] = [[], [torch.randn(DIM, HEADS * HEAD_DIM + 1)], [torch.randn(DIM, DIM)] * 2]
    segment = (torch.tensor([[0, 1]]), torch.tensor([[0]]))
    for out in wrong:
        with pytest.raises(RuntimeError, match="needed"):
            library.ops().attention_block(*call, *segment, *angles, HEADS, 100, out, [], [])
        assert not keys.any()
        assert not values.any()


@pytest.mark.skipif(library.why_not() is not None, reason=f"no native kernels: {library.why_not()}")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in NOT_NATIVE])
@pytest.mark.parametrize("tokens", [0, 1, 9, 300])
def test_experts(tokens: int, kind: torch.dtype | QuantKind) -> None:
    shapes = [(HIDDEN, DIM), (DIM, HIDDEN), (HIDDEN, DIM)] * EXPERTS
    experts = Matrices([matrix(*shape, kind) for shape in shapes])
    x, before, gate = torch.randn(tokens, DIM), norm(torch.float32), torch.randn(EXPERTS, DIM).bfloat16()
    found = moe_block(x, before, gate, 2, experts)
    assert found is not None
    normed = rms_norm(x, *before)
    ids, weights = topk_gate(linear(normed, gate), 2)
    pairs, counts = expert_sort(ids, torch.arange(EXPERTS))
    rows = expert_mlp(take_rows(normed, pairs, 2), counts.tolist(), experts)
    assert torch.equal(found[0], x + sum_rows(rows, pairs, weights))
    assert torch.equal(found[1], ids)


@pytest.mark.usefixtures("way")
def test_odd_norms_and_gates_are_taken() -> None:
    """Not contiguous, or of a dtype that the extension does not have: other ways give the same."""
    x, experts = torch.randn(3, DIM), Matrices([matrix(*s, torch.float32) for s in [(8, DIM), (DIM, 8), (8, DIM)] * 2])
    gate, weight = torch.randn(DIM, 2), torch.rand(DIM, 2)
    plain = moe_block(x, Norm(weight[:, 0].clone(), 1e-5), gate.T.contiguous(), 1, experts)
    found = moe_block(x, Norm(weight[:, 0], 1e-5), gate.T, 1, experts)
    assert (plain is None) == (found is None)
    if plain is not None and found is not None:
        assert torch.equal(plain[0], found[0])
    assert moe_block(x, Norm(weight[:, 0].double(), 1e-5), gate.T, 1, experts) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("way")
def test_a_product_with_norm_and_residual(kind: torch.dtype | QuantKind) -> None:
    weights = Matrices([matrix(outputs, DIM, kind) for outputs in (20, 33)])
    x, residual = torch.randn(5, DIM), torch.randn(5, 53)
    for before in (norm(torch.bfloat16), Norm(torch.rand(DIM, 2)[:, 0], 1e-5), norm(torch.float64)):
        found = side_by_side(x, weights, norm=before, residual=residual)
        assert torch.equal(found, residual + side_by_side(rms_norm(x, *before), weights))


@pytest.mark.usefixtures("way")
def test_the_gate_of_a_matrix() -> None:
    x, gate = torch.randn(7, DIM), torch.randn(DIM, EXPERTS).bfloat16().T
    found, expected = linear_gate(x, gate, 2), topk_gate(linear(x, gate.contiguous()), 2)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
