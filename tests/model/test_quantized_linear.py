"""Which matrices of a model are quantized, and that the modules use the parameters that they have."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from mixtralkit.model.quantized_linear import QuantizedLinear, quantize_modules
from mixtralkit.model.transformer import Transformer
from mixtralkit.ops.quantize import quantize
from mixtralkit.ops.quantized_weight import QuantKind
from tests.random_model import TINY

CONFIG = replace(TINY, dim=64, hidden_dim=128, num_layers=1, num_experts=2)


def quantized(config: object = CONFIG) -> set[str]:
    with torch.device("meta"):
        model = Transformer(config)  # type: ignore[arg-type]
    quantize_modules(model, QuantKind.INT4)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    return {name for name, module in model.named_modules() if isinstance(module, QuantizedLinear)}


def test_matrices_are_quantized_but_not_embeddings_norms_and_gates() -> None:
    """The 32 inputs of wo, 4 heads of 8, are no multiple of 64."""
    experts = {f"layers.0.feed_forward.experts.{e}.{w}" for e in range(2) for w in ("w1", "w2", "w3")}
    attention = {f"layers.0.attention.{w}" for w in ("wq", "wk", "wv")}
    assert quantized() == {*experts, *attention, "output"}
    assert "layers.0.attention.wo" in quantized(replace(CONFIG, head_dim=16))


@pytest.mark.parametrize("kind", QuantKind)
def test_the_weight_is_what_the_parameters_are_now(kind: QuantKind) -> None:
    """Loading replaces the parameters; others see the new ones through `weight`, and always the same object."""
    module = QuantizedLinear(64, 32, kind)
    made = quantize(torch.randn(32, 64), kind)
    for name, part in made.parts.items():
        setattr(module, name, nn.Parameter(part, requires_grad=False))
    assert torch.equal(module.weight.dequantize(), made.dequantize())
    assert module.weight is module.weight
    assert {name for name, _ in module.named_parameters()} == made.parts.keys()
    assert module(torch.randn(2, 64)).shape == (2, 32)
