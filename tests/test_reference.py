"""The oracle itself, held against transformers' MixtralForCausalLM."""

import dataclasses
from typing import Any

import pytest
import torch

from tests.random_model import random_model
from tests.reference import mixtral
from tests.reference.cases import CONFIGS, config_of, random_tokens, shape_of
from tests.reference.hugging_face import hugging_face_model, renamed

# float32 against float64 on logits of size 1 to 4: the worst of these cases measured 4e-6.
TOLERANCE = 1e-5


@pytest.mark.parametrize("case", CONFIGS)
def test_the_oracle_equals_transformers(case: str) -> None:
    config = config_of(case)
    weights = dict(random_model(config).named_parameters())
    tokens = random_tokens(config, 17)
    with torch.no_grad():
        theirs = hugging_face_model(weights, config)(torch.tensor([tokens])).logits[0]
        exact = {name: weight.double() for name, weight in weights.items()}
        ours = mixtral.logits(exact, shape_of(config), tokens)
    assert torch.allclose(ours.float(), theirs, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("change", [{"rope_theta": 1e4}, {"top_k": 1}, {"sliding_window": 4}, {"norm_eps": 1e-2}])
def test_the_comparison_sees_a_wrong_model(change: dict[str, Any]) -> None:
    config = config_of("plain")
    weights = {name: weight.double() for name, weight in random_model(config).state_dict().items()}
    tokens = random_tokens(config, 17)
    right = mixtral.logits(weights, shape_of(config), tokens)
    wrong = mixtral.logits(weights, dataclasses.replace(shape_of(config), **change), tokens)
    assert (right - wrong).abs().max() > 100 * TOLERANCE


def test_the_comparison_sees_a_missing_rotary_permutation() -> None:
    config = config_of("plain")
    weights = random_model(config).state_dict()
    tokens = torch.tensor([random_tokens(config, 17)])
    model = hugging_face_model(weights, config)
    with torch.no_grad():
        right = model(tokens).logits
        for name, weight in renamed(weights, config).items():
            if name.endswith("q_proj.weight"):
                layer = name.split(".")[2]
                weight = weights[f"layers.{layer}.attention.wq.weight"]
                model.get_parameter(name).copy_(weight)
        wrong = model(tokens).logits
    assert (right - wrong).abs().max() > 100 * TOLERANCE
