"""Quantizing while loading: only what is read is quantized, and what cannot be is said."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mixtralkit.checkpoint import loader, memory_room
from mixtralkit.checkpoint.loader import LoadProgress, load_model
from mixtralkit.config import ModelConfig
from mixtralkit.errors import CheckpointError, LaunchError
from mixtralkit.ops.quantize import quantize
from mixtralkit.ops.quantized_weight import QuantKind
from tests.checkpoint.make_checkpoints import TINY, Kind, make_checkpoint, mistral_state
from tests.checkpoint.share import KEPT, keep_share

CPU = torch.device("cpu")
EVEN = replace(TINY, dim=64, hidden_dim=64, head_dim=16)


def expected_state(folder: Path, kind: Kind, quant: QuantKind, config: ModelConfig = EVEN) -> dict[str, torch.Tensor]:
    """The parameters of the quantized model, from transformers' weights; the rule is written out here."""
    expected: dict[str, torch.Tensor] = {}
    for name, tensor in mistral_state(make_checkpoint(folder, kind, config), config).items():
        if "norm" in name or "gate" in name or "embeddings" in name or tensor.shape[1] % 64:
            expected[name] = tensor
        else:
            parts = quantize(tensor, quant).parts
            expected |= {f"{name.removesuffix('weight')}{part}": made for part, made in parts.items()}
    return expected


@pytest.mark.parametrize("quant", QuantKind)
@pytest.mark.parametrize("kind", [Kind.SPLIT_PTH, Kind.STACKED, Kind.HF_FUSED])
def test_a_share_is_quantized_whatever_the_form(tmp_path: Path, kind: Kind, quant: QuantKind) -> None:
    expected = expected_state(tmp_path, kind, quant)
    seen: list[LoadProgress] = []
    model = load_model(tmp_path, dtype=None, device=CPU, quantize=quant, spread=keep_share, on_progress=seen.append)
    state = model.state_dict()
    kept = [name for name in expected if ".experts." not in name or int(name.split(".")[4]) in KEPT]
    assert sorted(state) == sorted(kept)
    assert all(torch.equal(state[name], expected[name]) for name in kept)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert seen[-1].nbytes == seen[-1].total_nbytes == sum(state[name].nbytes for name in kept)


def test_the_dtype_is_that_of_what_is_not_quantized(tmp_path: Path) -> None:
    expected = expected_state(tmp_path, Kind.MISTRAL_PTH, QuantKind.INT8)
    state = load_model(tmp_path, dtype=torch.bfloat16, device=CPU, quantize=QuantKind.INT8).state_dict()
    assert state["norm.weight"].dtype == torch.bfloat16
    assert torch.equal(state["output.codes"], expected["output.codes"])


def test_matrices_whose_inputs_do_not_divide_stay_as_they_are_and_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The width is 64, but a hidden size of 24 makes rows of w2 of 24."""
    config = replace(EVEN, hidden_dim=24)
    expected = expected_state(tmp_path, Kind.MISTRAL_PTH, QuantKind.INT4, config)
    state = load_model(tmp_path, dtype=None, device=CPU, quantize=QuantKind.INT4).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    assert "8 matrices are not quantized, since their inputs do not divide into groups of 64" in caplog.text
    assert "layers.0.feed_forward.experts.0.w2.weight" in caplog.text


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, Kind.MISTRAL_PTH, EVEN)
    state = torch.load(tmp_path / "consolidated.00.pth", weights_only=True)
    state["layers.1.attention.wo.weight"][3, 5] = torch.nan
    torch.save(state, tmp_path / "consolidated.00.pth")
    with pytest.raises(CheckpointError, match="layers.1.attention.wo.weight holds NaN, infinity or a value too large"):
        load_model(tmp_path, dtype=None, device=CPU, quantize=QuantKind.INT4)


@pytest.mark.parametrize("kind", QuantKind)
def test_that_a_cpu_is_slow_with_fp8_is_said(tmp_path: Path, kind: QuantKind, caplog: pytest.LogCaptureFixture) -> None:
    make_checkpoint(tmp_path, Kind.MISTRAL_PTH, EVEN)
    load_model(tmp_path, dtype=None, device=CPU, quantize=kind)
    assert ("prefer --quantize int8 here" in caplog.text) == (kind is QuantKind.FP8)


def test_memory_is_asked_for_what_will_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantized weights need memory of their own; what keeps the files' dtype stays in the file."""
    expected = expected_state(tmp_path, Kind.MISTRAL_PTH, QuantKind.INT4)
    needed = sum(tensor.nbytes for name, tensor in expected.items() if not name.endswith(".weight"))
    monkeypatch.setattr(loader, "fill", lambda *args, **options: None)
    monkeypatch.setattr(memory_room, "free_memory", lambda device: needed)
    load_model(tmp_path, dtype=None, device=CPU, quantize=QuantKind.INT4)
    monkeypatch.setattr(memory_room, "free_memory", lambda device: needed - 1)
    with pytest.raises(LaunchError, match="this rank's weights need"):
        load_model(tmp_path, dtype=None, device=CPU, quantize=QuantKind.INT4)
