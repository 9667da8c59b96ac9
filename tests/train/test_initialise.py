"""The weights that a training starts from."""

import pytest
import torch

from mixtralkit.config import ModelConfig
from mixtralkit.model.transformer import Transformer
from mixtralkit.train.initialise import initialise

SHAPE = ModelConfig(
    vocab_size=500,
    dim=64,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    hidden_dim=96,
    num_experts=3,
    top_k=2,
)


def made(seed: int) -> Transformer:
    model = Transformer(SHAPE)
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    initialise(model, seed)
    return model


def test_every_weight_has_its_deviation() -> None:
    """0.02, and half of that for what writes to the residual stream of 2 layers. The smallest matrix (the gate) has 192
    elements, whose deviation varies by 5 %; 20 % is four times that.
    """
    for name, weight in made(0).named_parameters():
        if weight.dim() == 1:
            assert torch.equal(weight, torch.ones_like(weight)), name
        else:
            expected = 0.01 if name.endswith((".wo.weight", ".w2.weight")) else 0.02
            assert weight.std().item() == pytest.approx(expected, rel=0.2), name
            assert abs(weight.mean().item()) < 0.2 * expected, name


def test_the_seed_decides() -> None:
    first, again, other = (made(seed).output.weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
