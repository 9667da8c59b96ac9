"""Random weights are sane numbers, differ from row to row, and spread tokens over all experts."""

from dataclasses import replace

import pytest
import torch

from mixtralkit.bench import random_weights
from mixtralkit.bench.random_weights import random_model
from mixtralkit.dist.topology import Topology
from mixtralkit.errors import LaunchError
from mixtralkit.model.quantized_linear import QuantizedLinear
from mixtralkit.moe.dispatch.local import LocalDispatch
from mixtralkit.moe.load import ExpertLoad
from mixtralkit.moe.placement.plan import even_split
from mixtralkit.moe.placement.routes import routes_of
from mixtralkit.ops.quantized_weight import QuantKind
from mixtralkit.parallelize import parallelize
from tests.random_model import TINY

CPU = torch.device("cpu")
# More than one pattern long in its embeddings, and divisible into groups of 64.
SHAPE = replace(TINY, vocab_size=9_000, dim=128, hidden_dim=192, num_heads=4, num_kv_heads=2, head_dim=32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_have_the_deviation_asked_for_and_no_two_rows_are_alike(dtype: torch.dtype) -> None:
    """Of some 10,000 and more numbers, deviation and mean are those of the distribution within a tenth."""
    model = random_model(SHAPE, dtype=dtype, device=CPU)
    for name, weight in model.named_parameters():
        assert weight.dtype == dtype
        assert not weight.requires_grad
        if weight.dim() == 1:
            assert torch.equal(weight, torch.ones_like(weight)), name
        elif weight.numel() > 10_000:
            assert weight.float().std().item() == pytest.approx(random_weights.STD, rel=0.1), name
            assert abs(weight.float().mean().item()) < random_weights.STD / 10, name
    embedding = model.tok_embeddings.weight.float()
    assert embedding.numel() > random_weights.PATTERN
    assert len(embedding[:, :8].unique(dim=0)) == len(embedding)


def test_tokens_go_to_all_experts() -> None:
    """Of 1,000 rows, the least used of 5 experts has a twentieth at least, where an even share is a fifth."""
    load = ExpertLoad(SHAPE.num_layers, SHAPE.num_experts, CPU)

    def spread(model: object) -> None:
        routes = routes_of(even_split(SHAPE.num_experts, 1), Topology((0,)), 0)
        dispatch = LocalDispatch(SHAPE.num_experts)
        parallelize(
            model,  # type: ignore[arg-type]
            routes=[routes] * SHAPE.num_layers,
            dispatch_for=lambda routes, _: dispatch,
            load=load,
        )

    model = random_model(SHAPE, dtype=torch.float32, device=CPU, spread=spread)
    with torch.inference_mode():
        logits = model(torch.arange(500).view(10, 50))
    assert logits.isfinite().all()
    assert load.rows_LE.sum(1).tolist() == [1000] * SHAPE.num_layers
    assert int(load.rows_LE.min()) > 50


@pytest.mark.parametrize("kind", list(QuantKind))
def test_quantized_weights_stand_for_numbers_of_the_same_deviation(kind: QuantKind) -> None:
    """Of fp8 normally drawn; the 16 even steps of int4 have a mean and a deviation within a tenth of the wanted."""
    model = random_model(SHAPE, dtype=torch.bfloat16, device=CPU, quantize=kind)
    matrices = [module for module in model.modules() if isinstance(module, QuantizedLinear)]
    assert len(matrices) == SHAPE.num_layers * (4 + 3 * SHAPE.num_experts) + 1
    for matrix in matrices:
        weights = matrix.weight.dequantize()
        assert weights.std().item() == pytest.approx(random_weights.STD, rel=0.1)
        assert abs(weights.mean().item()) < random_weights.STD / 10
    with torch.inference_mode():
        assert model(torch.arange(20).view(2, 10)).isfinite().all()


def test_too_little_memory_is_told_before_any_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_weights, "free_memory", lambda device: 1_000_000)
    with pytest.raises(
        LaunchError, match=r"random weights take 0\.0 GB on cpu \(ranks there: 2\), and 0\.0 GB are free"
    ):
        random_model(SHAPE, dtype=torch.float32, device=CPU, ranks_on_device=2)
