"""A loaded model whose matrices lie as on a GPU: names and values, whose memory, and products of several at once."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from mixtralkit.checkpoint.loader import load_model
from mixtralkit.model.attention import Attention
from mixtralkit.model.transformer import Transformer
from mixtralkit.ops import library, linear, triton_kernels
from mixtralkit.ops.expert_mlp import expert_mlp
from mixtralkit.ops.matrices import Matrices
from mixtralkit.ops.rms_norm import Norm
from tests.checkpoint.make_checkpoints import TINY, Kind, make_checkpoint
from tests.checkpoint.share import KEPT, keep_share

CPU = torch.device("cpu")
CONFIG = replace(TINY, dim=64, hidden_dim=48, head_dim=16)


@pytest.fixture(params=[Kind.MISTRAL_PTH, Kind.STACKED, Kind.HF, Kind.HF_FUSED], ids=lambda kind: str(kind.value))
def both(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Transformer]:
    """As a CPU has it, and placed as for a GPU."""
    make_checkpoint(tmp_path, request.param, CONFIG, dtype=torch.bfloat16)
    plain = load_model(tmp_path, dtype=None, device=CPU)
    monkeypatch.setattr("mixtralkit.checkpoint.slots._is_placed", lambda tensor: True)
    return [plain, load_model(tmp_path, dtype=None, device=CPU)]


def attention(model: Transformer, layer: int) -> Attention:
    return cast(Attention, model.get_submodule(f"layers.{layer}.attention"))


def storages(parameters: Iterable[torch.Tensor]) -> set[int]:
    return {parameter.untyped_storage().data_ptr() for parameter in parameters}


def test_names_and_values_are_the_same(both: list[Transformer]) -> None:
    plain, placed = (dict(model.named_parameters()) for model in both)
    assert list(plain) == list(placed)
    for name, parameter in plain.items():
        assert torch.equal(parameter, placed[name]), name
        assert placed[name].is_contiguous()
        assert not placed[name].requires_grad


def test_memory_is_one_piece_for_what_is_multiplied_together(both: list[Transformer]) -> None:
    """Of each layer: the experts' three matrices, and those of queries, keys and values. No byte more than those."""
    model, seen = both[1], set()
    for layer in range(CONFIG.num_layers):
        of_attention = [getattr(attention(model, layer), name).weight for name in ("wq", "wk", "wv")]
        of_experts = list(model.get_submodule(f"layers.{layer}.feed_forward.experts").parameters())
        for together in (of_attention, of_experts):
            assert len(storages(together)) == 1
            assert together[0].untyped_storage().nbytes() == sum(part.nbytes for part in together)
            seen |= storages(together)
    others = [p for name, p in model.named_parameters() if ".wo." in name or "norm" in name or ".gate." in name]
    assert len(seen) == 2 * CONFIG.num_layers
    assert seen.isdisjoint(storages(others))


def test_a_share_of_the_experts_lies_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with expert parallelism: those that other ranks hold leave no gaps."""
    make_checkpoint(tmp_path, Kind.HF, CONFIG, dtype=torch.bfloat16)
    monkeypatch.setattr("mixtralkit.checkpoint.slots._is_placed", lambda tensor: True)
    model = load_model(tmp_path, dtype=None, device=CPU, spread=keep_share)
    experts = model.get_submodule("layers.0.feed_forward.experts")
    weights = [experts.get_parameter(f"{expert}.w{number}.weight") for expert in KEPT for number in (1, 2, 3)]
    stacks = Matrices(weights).expert_stacks
    assert stacks is not None
    assert torch.equal(stacks[0][1], torch.cat((weights[3], weights[5])))
    assert weights[0].untyped_storage().nbytes() == sum(weight.nbytes for weight in weights)


@pytest.mark.parametrize("rows", [1, 7])
@torch.inference_mode()
def test_queries_keys_and_values_are_one_product(
    both: list[Transformer], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The branch that GPUs take, here with torch's operators: against three products in float64, with and without a
    norm and a residual. Rows of bfloat16: a rounding of results of the order of 8, and of normed rows before.
    """
    monkeypatch.setattr(library, "ops_if_available", lambda: None)
    products, plain_linear = [], linear._linear

    def counted(x_RD: torch.Tensor, weight_FD: torch.Tensor) -> torch.Tensor:
        products.append(weight_FD.shape)
        return plain_linear(x_RD, weight_FD)

    monkeypatch.setattr(linear, "_linear", counted)
    monkeypatch.setattr(linear, "_is_joined", lambda x, weights: weights.joined is not None)
    found = attention(both[1], 1)
    matrices = [found.wq.weight, found.wk.weight, found.wv.weight]
    x_TD = torch.randn(rows, CONFIG.dim).bfloat16()
    residual_TX = torch.randn(rows, sum(map(len, matrices))).bfloat16()
    norm = Norm(torch.rand(CONFIG.dim).bfloat16(), 1e-5)
    normed_TD = (
        x_TD.double() * torch.rsqrt(x_TD.double().square().mean(1, keepdim=True) + 1e-5) * norm.weight_D.double()
    )
    for given, rows_TD in ((None, x_TD.double()), (norm, normed_TD)):
        expected = torch.cat([rows_TD @ matrix.double().T for matrix in matrices], dim=1) + residual_TX.double()
        result = linear.side_by_side(x_TD, found._qkv, norm=given, residual=residual_TX)
        torch.testing.assert_close(result.double(), expected, rtol=2**-7, atol=2**-5)
    assert products == [(sum(map(len, matrices)), CONFIG.dim)] * 2


def test_which_calls_are_one_product(both: list[Transformer]) -> None:
    """On a GPU, without gradients, of several matrices that lie so."""
    plain, placed = (attention(model, 0)._qkv for model in both)
    on_gpu = cast(torch.Tensor, SimpleNamespace(is_cuda=True, requires_grad=False))
    learning = cast(torch.Tensor, SimpleNamespace(is_cuda=True, requires_grad=True))
    assert linear._is_joined(on_gpu, placed)
    assert not linear._is_joined(on_gpu, plain)
    assert not linear._is_joined(on_gpu, Matrices(placed.matrices[:1]))
    assert not linear._is_joined(torch.zeros(1), placed)
    assert not linear._is_joined(learning, placed)
    with torch.no_grad():
        assert linear._is_joined(learning, placed)


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU there is no interpreter")
@torch.inference_mode()
def test_experts_have_the_bits_of_those_that_lie_apart(both: list[Transformer]) -> None:
    """The kernels read a matrix where its address says, wherever that is: here in the interpreter."""
    pytest.importorskip("triton")
    x_TD, counts = torch.randn(6, CONFIG.dim).bfloat16(), [2, 0, 3, 1]
    experts = both[1].get_submodule("layers.1.feed_forward.experts")
    weights = [experts.get_parameter(f"{expert}.w{number}.weight") for expert in range(4) for number in (1, 2, 3)]
    placed, apart = Matrices(weights), Matrices([weight.clone() for weight in weights])
    assert placed.addresses is not None
    with triton_kernels.interpreting():
        assert torch.equal(expert_mlp(x_TD, counts, placed), expert_mlp(x_TD, counts, apart))
