"""Single experts are read as the loader reads them: the same tensors, in the same place."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import nn

from mixtralkit.checkpoint.expert_reader import ExpertReader
from mixtralkit.checkpoint.loader import load_model
from mixtralkit.cli.main import main
from mixtralkit.config import ModelConfig
from mixtralkit.errors import CheckpointError
from mixtralkit.model.moe_ffn import MoeFfn
from mixtralkit.model.transformer import Block
from mixtralkit.moe.placement.transfer import checksum
from mixtralkit.ops.quantized_weight import QuantKind
from tests.checkpoint.make_checkpoints import TINY, Kind, make_checkpoint, mistral_state

CPU = torch.device("cpu")
EVEN = replace(TINY, dim=64, hidden_dim=128, head_dim=16)  # every matrix can be quantized


def check_equal_to_the_loaders(folder: Path, dtype: torch.dtype | None, quantize: QuantKind | None = None) -> None:
    """Names, order, types, bits and the checksums that replicas are compared by."""
    model = load_model(folder, dtype=dtype, device=CPU, quantize=quantize)
    reader = ExpertReader(folder, dtype=dtype, device=CPU, quantize=quantize)
    for layer, block in enumerate(model.layers):
        for number, loaded in enumerate(cast(MoeFfn, cast(Block, block).feed_forward).experts):
            expert = reader.read(layer, number)
            theirs, ours = dict(loaded.named_parameters()), dict(expert.named_parameters())
            assert list(ours) == list(theirs)
            for name, parameter in ours.items():
                assert parameter.dtype == theirs[name].dtype
                assert torch.equal(parameter, theirs[name])
                assert not parameter.requires_grad
            assert checksum(expert) == checksum(loaded)
            assert not expert.training


@pytest.mark.parametrize("kind", Kind)
def test_every_form(tmp_path: Path, kind: Kind) -> None:
    make_checkpoint(tmp_path, kind)
    check_equal_to_the_loaders(tmp_path, None)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
def test_dtypes(tmp_path: Path, stored: torch.dtype, dtype: torch.dtype | None) -> None:
    make_checkpoint(tmp_path, Kind.SPLIT_PTH, dtype=stored)
    check_equal_to_the_loaders(tmp_path, dtype)


@pytest.mark.parametrize("quant", QuantKind)
def test_quantized_while_loading(tmp_path: Path, quant: QuantKind) -> None:
    make_checkpoint(tmp_path, Kind.MISTRAL_PTH, EVEN, dtype=torch.bfloat16)
    check_equal_to_the_loaders(tmp_path, None, quant)


def test_quantized_but_for_a_matrix_that_cannot_be(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, Kind.MISTRAL_PTH, replace(EVEN, hidden_dim=24), dtype=torch.bfloat16)
    check_equal_to_the_loaders(tmp_path, None, QuantKind.INT4)


@pytest.mark.parametrize("quant", QuantKind)
def test_stored_quantized(tmp_path: Path, quant: QuantKind) -> None:
    make_checkpoint(tmp_path / "wide", Kind.MISTRAL_PTH, EVEN, dtype=torch.bfloat16)
    made = tmp_path / "made"
    assert main(["convert", "-m", str(tmp_path / "wide"), "--output", str(made), "--quantize", quant.value]) == 0
    check_equal_to_the_loaders(made, None)
    check_equal_to_the_loaders(made, None, quant)


def test_the_right_expert_of_the_right_layer(tmp_path: Path) -> None:
    """Against transformers' weights."""
    config: ModelConfig = TINY
    expected = mistral_state(make_checkpoint(tmp_path, Kind.HF_FUSED), config)
    expert = ExpertReader(tmp_path, dtype=None, device=CPU, quantize=None).read(1, 3)
    for name, parameter in expert.named_parameters():
        assert torch.equal(parameter, expected[f"layers.1.feed_forward.experts.3.{name}"])


def test_unchanged_bytes_stay_in_the_file(tmp_path: Path) -> None:
    """Where the loader maps them: two readings share memory with each other and with the model."""
    make_checkpoint(tmp_path, Kind.MISTRAL_PTH)
    reader = ExpertReader(tmp_path, dtype=None, device=CPU, quantize=None)
    first, second = (list(reader.read(0, 2).parameters()) for _ in range(2))
    assert [p.data_ptr() for p in first] == [p.data_ptr() for p in second]


def test_a_broken_checkpoint_is_refused_when_it_is_made(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, Kind.MISTRAL_PTH)
    weights = tmp_path / "consolidated.00.pth"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError):
        ExpertReader(tmp_path, dtype=None, device=CPU, quantize=None)


def test_it_can_be_computed_with(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, Kind.MISTRAL_PTH)
    expert: nn.Module = ExpertReader(tmp_path, dtype=None, device=CPU, quantize=None).read(0, 0)
    model = load_model(tmp_path, dtype=None, device=CPU)
    loaded = cast(MoeFfn, cast(Block, model.layers[0]).feed_forward).experts[0]
    x_RD = torch.randn(3, TINY.dim)
    assert torch.equal(expert(x_RD), loaded(x_RD))
