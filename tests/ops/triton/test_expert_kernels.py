"""The experts' kernels, and the sum of their rows, against a loop over the pairs in float64.

Results are of size 1 to 4. The tolerances are in units of the last place of 1 in the activations' dtype. In half
precision hidden rows and results are rounded to it, and so are weights that are dequantized; in Triton's interpreter
bfloat16 is cut off and not rounded, which is twice as far. In float32 it is the additions that round, up to 200 in
three sums, the last of which has the errors of the others on top.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from mixtralkit.ops.expert_mlp import expert_mlp
from mixtralkit.ops.matrices import Matrices
from mixtralkit.ops.quantize import quantize
from mixtralkit.ops.quantized_weight import Matrix, QuantizedWeight, QuantKind

UNITS = {torch.float32: 32, torch.bfloat16: 8, torch.float16: 8}
Kind = torch.dtype | QuantKind


def experts_of(kind: Kind, number: int, dim: int, hidden_dim: int, device: torch.device) -> list[Matrix]:
    shapes = [(hidden_dim, dim), (dim, hidden_dim), (hidden_dim, dim)] * number
    return [_matrix(torch.randn(shape) * shape[1] ** -0.5, kind, device) for shape in shapes]


def _matrix(weight: torch.Tensor, kind: Kind, device: torch.device) -> Matrix:
    if isinstance(kind, torch.dtype):
        return weight.to(device, kind)
    made = quantize(weight, kind)
    mins = None if made.mins is None else made.mins.to(device)
    return replace(made, codes=made.codes.to(device), scales=made.scales.to(device), mins=mins)


def _exact(x: torch.Tensor, expert: int, weights: Sequence[Matrix]) -> torch.Tensor:
    dense = [weight.dequantize() if isinstance(weight, QuantizedWeight) else weight for weight in weights]
    w1, w2, w3 = (weight.cpu().double() for weight in dense[3 * expert : 3 * expert + 3])
    gate = w1 @ x.cpu().double()
    return w2 @ (gate * torch.sigmoid(gate) * (w3 @ x.cpu().double()))


def _check_pairs(
    device: torch.device,
    ids: list[list[int]],
    experts: int,
    top_k: int,
    kind: Kind = torch.bfloat16,
    dtype: torch.dtype = torch.bfloat16,
    dims: tuple[int, int] = (64, 48),
) -> None:
    from mixtralkit.ops.triton.expert_kernels import grouped_swiglu

    weights = experts_of(kind, experts, *dims, device)
    x = torch.randn(len(ids), dims[0], device=device).to(dtype)
    flat = [expert for chosen in ids for expert in chosen]
    pairs = torch.tensor(sorted(range(len(flat)), key=flat.__getitem__), dtype=torch.int64, device=device)
    counts = torch.tensor([flat.count(expert) for expert in range(experts)], device=device)
    found = grouped_swiglu(x, pairs, counts, top_k, Matrices(weights))
    assert (found.shape, found.dtype) == ((len(flat), dims[0]), dtype)
    for pair, expert in enumerate(flat):
        error = found[pair].cpu().double() - _exact(x[pair // top_k], expert, weights)
        assert error.abs().max() <= UNITS[dtype] * torch.finfo(dtype).eps


def _random_ids(tokens: int, experts: int, top_k: int) -> list[list[int]]:
    return [torch.randperm(experts)[:top_k].tolist() for _ in range(tokens)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tokens", [0, 1, 3, 17])
@pytest.mark.parametrize(("experts", "top_k"), [(8, 2), (5, 1)])
def test_each_pair_gets_its_expert(
    device: torch.device, experts: int, top_k: int, tokens: int, dtype: torch.dtype
) -> None:
    _check_pairs(device, _random_ids(tokens, experts, top_k), experts, top_k, dtype, dtype)


@settings(
    max_examples=8,
    phases=[Phase.explicit, Phase.generate],  # interpreting is too slow to shrink
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example([3] * 40, (72, 40))
@given(st.lists(st.integers(0, 4), max_size=40), st.sampled_from([(16, 16), (72, 40), (160, 33)]))
def test_any_counts_and_widths(device: torch.device, chosen: list[int], dims: tuple[int, int]) -> None:
    """Also more rows of an expert than a tile has, and widths that no tile divides."""
    _check_pairs(device, [[expert] for expert in chosen], 5, 1, torch.float32, torch.float32, dims)


def test_more_experts_than_tiles_go_side_by_side(device: torch.device) -> None:
    _check_pairs(device, _random_ids(20, 60, 3), 60, 3, dims=(32, 64))


@pytest.mark.parametrize(("tokens", "kind"), [(25, torch.bfloat16), (60, torch.bfloat16), (60, QuantKind.INT8)])
def test_many_rows(device: torch.device, tokens: int, kind: Kind) -> None:
    """Tiles of 64 and 128 rows, most of them for one of two experts."""
    ids = [[0] if token % 10 else [1] for token in range(tokens)]
    _check_pairs(device, ids, 2, 1, kind, dims=(64, 64))


@pytest.mark.parametrize("kind", [torch.float16, *QuantKind])
@pytest.mark.parametrize(("dims", "dtype"), [((64, 128), torch.float32), ((192, 64), torch.bfloat16)])
def test_weights_of_another_kind(device: torch.device, kind: Kind, dims: tuple[int, int], dtype: torch.dtype) -> None:
    _check_pairs(device, _random_ids(5, 8, 2), 8, 2, kind, dtype, dims)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fp8_of_processors_that_do_not_convert_it(
    device: torch.device, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read as bits there, as here."""
    import triton.language as tl

    from mixtralkit.ops.triton import weight_tile_kernels

    monkeypatch.setattr(weight_tile_kernels, "fp8_type", lambda device: tl.uint8)
    _check_pairs(device, _random_ids(5, 8, 2), 8, 2, QuantKind.FP8, dtype, (64, 128))


@pytest.mark.parametrize("counts", [(3, 0, 5, 1), (0, 0, 0, 0), (0, 40, 0, 0)])
@torch.no_grad()
def test_counts_from_the_host(kernels: torch.device, counts: tuple[int, ...]) -> None:
    """`expert_mlp`, as the dispatches call it."""
    weights = experts_of(torch.float32, 4, 32, 48, kernels)
    rows = torch.randn(sum(counts), 32, device=kernels)
    found = expert_mlp(rows, counts, Matrices(weights))
    owners = [expert for expert, count in enumerate(counts) for _ in range(count)]
    for row, expert in enumerate(owners):
        error = found[row].cpu().double() - _exact(rows[row], expert, weights)
        assert error.abs().max() <= UNITS[torch.float32] * torch.finfo(torch.float32).eps


@torch.no_grad()
def test_matrices_that_do_not_begin_at_16_bytes_go_to_torch(kernels: torch.device) -> None:
    flat = torch.randn(3 * 64 + 1, device=kernels)
    weights = Matrices(list(flat[1:].view(3, 8, 8)))
    rows = torch.randn(2, 8, device=kernels)
    assert weights.addresses is None
    error = expert_mlp(rows, [2], weights)[1].cpu().double() - _exact(rows[1], 0, weights.matrices)
    assert error.abs().max() <= 1e-4


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("tokens", "top_k", "dim"), [(0, 2, 8), (1, 1, 40), (3, 2, 1030), (2, 6, 16)])
def test_the_sum_of_a_tokens_rows(
    device: torch.device, tokens: int, top_k: int, dim: int, dtype: torch.dtype, with_residual: bool
) -> None:
    """Of size 1 to 10: in half precision the one rounding is of at most a unit of 8."""
    from mixtralkit.ops.triton.combine_kernels import weighted_rows_sum

    rows = torch.randn(tokens * top_k, dim, device=device).to(dtype)
    weights = torch.rand(tokens, top_k, device=device)
    residual = torch.randn(tokens, dim, device=device).to(dtype) if with_residual else None
    found = weighted_rows_sum(rows, weights, residual)
    exact = (rows.view(tokens, top_k, dim).double() * weights.double()[..., None]).sum(1)
    exact = exact if residual is None else exact + residual.double()
    assert (found.shape, found.dtype) == ((tokens, dim), dtype)
    assert ((found.double() - exact).abs() <= UNITS[dtype] * torch.finfo(dtype).eps).all()
