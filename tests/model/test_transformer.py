"""The model's logits against transformers' and the oracle's, without a cache.

That the comparison is sharp is tested too: wrong variants that still write plausible text must fail it.
"""

import dataclasses
from typing import Any

import pytest
import torch

from mixtralkit.config import ModelConfig
from mixtralkit.errors import RequestError
from mixtralkit.model import moe_ffn
from mixtralkit.model.transformer import Transformer
from tests.random_model import TINY, random_model
from tests.reference import mixtral
from tests.reference.cases import CONFIGS, config_of, random_tokens, shape_of
from tests.reference.hugging_face import halves, hugging_face_model

# Logits are of size 1 to 4; two float32 implementations that add in other orders measured up to 1.6e-6 apart.
TOLERANCE = 1e-5


def exact_logits(model: Transformer, tokens: list[int]) -> torch.Tensor:
    """The oracle's, in float64, of the model's own (rounded) weights."""
    weights = {name: weight.double() for name, weight in model.state_dict().items()}
    return mixtral.logits(weights, shape_of(model.config), tokens)


def with_weights_of(model: Transformer, config: ModelConfig) -> Transformer:
    other = Transformer(config).eval()
    other.load_state_dict(model.state_dict())
    return other


@pytest.mark.parametrize("case", CONFIGS)
@torch.no_grad()
def test_logits_equal_transformers_and_the_oracle(case: str) -> None:
    model = random_model(config_of(case))
    tokens = torch.tensor([random_tokens(model.config, 17, seed) for seed in (2, 3)])
    logits = model(tokens)
    assert (logits.dtype, logits.shape) == (torch.float32, (2, 17, model.config.vocab_size))
    theirs = hugging_face_model(model.state_dict(), model.config)(tokens).logits
    torch.testing.assert_close(logits, theirs, rtol=0, atol=TOLERANCE)
    for request, ids in zip(logits, tokens.tolist(), strict=True):
        torch.testing.assert_close(request.double(), exact_logits(model, ids), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CONFIGS)
@torch.no_grad()
def test_half_precision_stays_close_to_float64(case: str, dtype: torch.dtype) -> None:
    """The typical error, not the largest: where two experts' logits are a rounding apart, half precision may choose the
    other one, and that token's logits differ by as much as the experts do. Activations of size 1 are rounded to dtype
    about ten times in two layers, each by up to eps/2; the median error measured 0.4 to 1.1 eps.
    """
    model = random_model(config_of(case)).to(dtype)
    tokens = random_tokens(model.config, 17)
    error = (model(torch.tensor([tokens]))[0].double() - exact_logits(model, tokens)).abs()
    assert error.median() < 2 * torch.finfo(dtype).eps


@torch.no_grad()
def assert_seen(wrong: Transformer, right: Transformer) -> None:
    """The comparison above would fail, and by far, in half precision too."""
    tokens = random_tokens(right.config, 17)
    error = (wrong(torch.tensor([tokens]))[0].double() - exact_logits(right, tokens)).abs()
    assert error.max() > 1000 * TOLERANCE
    assert error.median() > 2 * torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize("change", [{"rope_theta": 1e4}, {"top_k": 1}, {"sliding_window": 4}])
def test_a_wrong_configuration_is_seen(change: dict[str, Any]) -> None:
    right = random_model(config_of("plain"))
    assert_seen(with_weights_of(right, dataclasses.replace(right.config, **change)), right)


def test_hugging_face_weights_without_the_rotary_permutation_are_seen() -> None:
    right = random_model(config_of("plain"))
    wrong = with_weights_of(right, right.config)
    for name, weight in wrong.state_dict().items():
        for matrix, heads in (("wq", right.config.num_heads), ("wk", right.config.num_kv_heads)):
            if name.endswith(f"{matrix}.weight"):
                weight.copy_(halves(weight, heads))
    assert_seen(wrong, right)


def test_a_second_softmax_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = random_model(config_of("plain"))

    def twice(logits: torch.Tensor, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
        shares, ids = torch.softmax(logits.float(), dim=-1).topk(top_k)
        return ids, torch.softmax(shares, dim=-1)

    monkeypatch.setattr(moe_ffn, "topk_gate", twice)
    assert_seen(right, right)


def test_every_weight_has_the_gradient_of_the_oracle() -> None:
    """Gradients of size up to 1e-1, float32 against float64."""
    model = random_model(config_of("plain")).requires_grad_()
    tokens = random_tokens(model.config, 17)
    model(torch.tensor([tokens])).square().mean().backward()
    exact = {name: weight.detach().double().requires_grad_() for name, weight in model.named_parameters()}
    mixtral.logits(exact, shape_of(model.config), tokens).square().mean().backward()
    for name, weight in model.named_parameters():
        expected = exact[name].grad
        if expected is None:  # an expert that no token chose
            assert weight.grad is None or not weight.grad.any()
        else:
            torch.testing.assert_close(weight.grad, expected.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.zeros(4, dtype=torch.int64), r"tokens are torch.int64 \[4\]; integers of shape \[requests, tokens\]"),
        (torch.zeros(1, 4), r"tokens are torch.float32 \[1, 4\]"),
        (torch.zeros(1, TINY.context + 1, dtype=torch.int64), "65 tokens do not fit the model's context of 64"),
        (torch.tensor([[1, TINY.vocab_size]]), "token id 96 is outside the vocabulary of 0 to 95"),
        (torch.tensor([[-1]]), "token id -1 is outside"),
    ],
)
def test_tokens_that_the_model_cannot_take_are_refused(tokens: torch.Tensor, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        random_model(TINY)(tokens)
