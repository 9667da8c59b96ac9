"""A whole model in kernels against the one-file oracle in float64, and its texts against those without the kernels."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.engine.engine import Engine
from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.engine.request import Request, SamplingParams
from mixtralkit.model.batch import make_batch
from mixtralkit.model.quantized_linear import QuantizedLinear
from mixtralkit.model.transformer import Transformer
from mixtralkit.ops import library, triton_kernels
from mixtralkit.ops.quantized_weight import QuantKind
from mixtralkit.tokenizer import Tokenizer
from tests.random_model import TINY, quantize_random, random_model, spread
from tests.reference import mixtral
from tests.reference.cases import shape_of
from tests.small_tokenizer import PIECES, small_tokenizer

# Every matrix can be quantized, and the window is shorter than the request.
CONFIG = replace(
    TINY, dim=64, hidden_dim=64, head_dim=16, num_experts=3, context=40, vocab_size=PIECES, sliding_window=20
)
PROMPT = torch.randint(0, PIECES, (26,), generator=torch.Generator().manual_seed(1)).tolist()
PARTS = (PROMPT[:17], PROMPT[17:24], PROMPT[24:25], PROMPT[25:])


@pytest.fixture(autouse=True)
def _only_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extension has whole halves of a block, and would take what is to be interpreted."""
    monkeypatch.setattr(library, "ops_if_available", lambda: None)


def _parallel(model: Transformer, device: torch.device) -> Transformer:
    """With layers as the engine has them."""
    spread(model.to(device), "local", Collectives(None, device))
    return model


def _logits(model: Transformer, parts: Sequence[Sequence[int]], device: torch.device) -> torch.Tensor:
    """Of one request, fed to the model part by part, beside another one that starts again each time."""
    cache = model.new_cache(4)
    rows, start = [], 0
    for part in parts:
        batch = make_batch([part, [5, 6]], [start, 0], [[3, 1], [2]], device, logit_rows=range(len(part)))
        rows.append(model.next_token_logits(batch, cache))
        start += len(part)
    return torch.cat(rows).cpu()


@torch.no_grad()
def test_logits_are_those_of_the_oracle(kernels: torch.device) -> None:
    """A prompt, more of it, then token by token, over two blocks of the cache. Logits are of the order of 1, and
    float32 loses some units of 1e-7 in each of a dozen sums; a wrong row or weight changes them by 0.1 and more.
    """
    model = random_model(CONFIG, seed=3)
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    found = _logits(_parallel(model, kernels), PARTS, kernels)
    expected = mixtral.logits(weights, shape_of(CONFIG), PROMPT).float()
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", QuantKind)
@torch.no_grad()
def test_quantized_logits_are_those_of_what_the_codes_stand_for(kernels: torch.device, kind: QuantKind) -> None:
    """The kernels quantize no activations, so the oracle gets the dequantized weights; tolerance as above."""
    config = replace(CONFIG, num_layers=1)
    model = random_model(config, seed=3)
    quantize_random(model, kind)
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    for name, module in model.named_modules():
        if isinstance(module, QuantizedLinear):
            weights[f"{name}.weight"] = module.weight.dequantize().double()
    found = _logits(_parallel(model, kernels), (PROMPT[:5], PROMPT[5:6]), kernels)
    expected = mixtral.logits(weights, shape_of(config), PROMPT[:6]).float()
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_the_engine_writes_the_same_texts(kernels: torch.device, tmp_path: Path) -> None:
    """Greedily, requests of several lengths together, a prompt in parts. Two logits closer than float32's error would
    change a text; these do not come that close.
    """
    small_tokenizer(tmp_path)
    found = _texts(kernels, tmp_path)
    with _plainly():
        assert _texts(torch.device("cpu"), tmp_path) == found


@contextmanager
def _plainly() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_kernels, "_interpreting", False)
        yield


def _texts(device: torch.device, folder: Path) -> list[tuple[int, ...]]:
    engine = Engine(
        model=_parallel(random_model(CONFIG, seed=3), device),
        tokenizer=Tokenizer(folder / "tokenizer.model"),
        control=Collectives(None, torch.device("cpu")),
        limits=EngineLimits(batch_size=3, step_tokens=12),
    )
    requests = [Request(tuple(PROMPT[:length]), SamplingParams(max_tokens=4)) for length in (3, 16, 1)]
    return [completion.tokens for completion in engine.generate(requests)]
