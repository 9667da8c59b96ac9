"""Which parameters lie side by side on a GPU, in which order, and that nothing else about them changes."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from mixtralkit.checkpoint.slots import Slots, groups
from mixtralkit.model.quantized_linear import quantize_modules
from mixtralkit.model.transformer import Transformer
from mixtralkit.ops.matrices import Matrices
from mixtralkit.ops.quantized_weight import QuantKind
from tests.random_model import TINY

CONFIG = replace(TINY, dim=64, hidden_dim=64, num_layers=2, num_experts=2)


def empty(quantization: QuantKind | None = None) -> Transformer:
    with torch.device("meta"):
        model = Transformer(CONFIG)
    if quantization is not None:
        quantize_modules(model, quantization)
    return model


def test_the_order_is_not_that_of_the_names() -> None:
    """Experts by their numbers, 2 before 10; w3 behind w1."""
    names = [f"layers.3.feed_forward.experts.{expert}.{w}.weight" for expert in (10, 2) for w in ("w1", "w2", "w3")]
    (found,) = groups([*names, "layers.3.attention_norm.weight", "layers.3.attention.wo.weight"])
    assert [name.split(".")[-3:-1] for name in found] == [
        *(["2", "w1"], ["2", "w3"], ["2", "w2"]),
        *(["10", "w1"], ["10", "w3"], ["10", "w2"]),
    ]


def test_what_is_multiplied_together_lies_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is for a GPU. The tensors come in the checkpoint's order."""
    monkeypatch.setattr("mixtralkit.checkpoint.slots._is_placed", lambda tensor: True)
    model, made = empty(), {}
    slots = Slots(model)
    for name, parameter in model.named_parameters():
        made[name] = torch.randn(parameter.shape).bfloat16()
        placed = slots.place(name, made[name])
        assert torch.equal(placed, made[name])
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, nn.Parameter(placed, requires_grad=False))
    layer = "layers.1.feed_forward.experts"
    for prefix, parts in (("layers.1.attention.", "qkv"), ("layers.1.attention.", "qk")):
        weights: list[torch.Tensor] = [model.get_parameter(f"{prefix}w{part}.weight") for part in parts]
        joined = Matrices(weights).joined
        assert joined is not None
        assert torch.equal(joined, torch.cat(list(weights)))
    experts = [model.get_parameter(f"{layer}.{expert}.w{number}.weight") for expert in range(2) for number in (1, 2, 3)]
    stacks = Matrices(experts).expert_stacks
    assert stacks is not None
    assert torch.equal(stacks[0][1], torch.cat((made[f"{layer}.1.w1.weight"], made[f"{layer}.1.w3.weight"])))
    assert torch.equal(stacks[1][1], made[f"{layer}.1.w2.weight"])


def test_on_a_cpu_and_quantized_everything_stays_where_it_is() -> None:
    for model in (empty(), empty(QuantKind.INT8)):
        slots = Slots(model)
        for name, parameter in model.named_parameters():
            tensor = torch.zeros(parameter.shape, dtype=parameter.dtype)
            assert slots.place(name, tensor) is tensor
    assert groups(name for name, _ in empty(QuantKind.FP8).named_parameters() if name.endswith("codes")) == []
