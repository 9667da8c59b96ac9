"""Writing a quantized checkpoint: what is in it, equal to quantizing while loading, all or nothing."""

import json
import os
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mixtralkit.checkpoint import convert as convert_file
from mixtralkit.checkpoint.byte_progress import ByteProgress
from mixtralkit.checkpoint.checkpoint_summary import RankShare, summarize
from mixtralkit.checkpoint.convert import convert
from mixtralkit.checkpoint.loader import load_model
from mixtralkit.checkpoint.mapped_bytes import MappedBytes
from mixtralkit.errors import CheckpointError, UsageError
from mixtralkit.ops.quantized_weight import QuantKind
from tests.checkpoint.make_checkpoints import TINY, Kind, make_checkpoint
from tests.checkpoint.share import keep_share

CPU = torch.device("cpu")
EVEN = replace(TINY, dim=64, hidden_dim=64, head_dim=16)
FILE = "quantized.safetensors"


@pytest.fixture
def original(tmp_path: Path) -> Path:
    make_checkpoint(tmp_path / "original", Kind.HF, EVEN, dtype=torch.bfloat16)
    (tmp_path / "original" / "tokenizer.model").write_bytes(b"is only copied")
    return tmp_path / "original"


@pytest.mark.parametrize("kind", QuantKind)
def test_a_converted_checkpoint_equals_quantizing_while_loading(
    original: Path, tmp_path: Path, kind: QuantKind
) -> None:
    """Bit for bit, and so do the logits; the safetensors library reads the same tensors."""
    convert(original, tmp_path / "made", kind)
    now = load_model(original, dtype=None, device=CPU, quantize=kind)
    then = load_model(tmp_path / "made", dtype=None, device=CPU)
    library = load_file(tmp_path / "made" / FILE)
    assert library.keys() == now.state_dict().keys() == then.state_dict().keys()
    for name, tensor in now.state_dict().items():
        assert torch.equal(then.state_dict()[name], tensor), name
        assert torch.equal(library[name], tensor), name
    again = load_model(tmp_path / "made", dtype=None, device=CPU, quantize=kind)
    tokens = torch.randint(0, EVEN.vocab_size, (2, 9))
    assert torch.equal(then(tokens), now(tokens))
    assert torch.equal(again(tokens), now(tokens))


def test_what_goes_along(original: Path, tmp_path: Path) -> None:
    convert(original, tmp_path / "made", QuantKind.INT4)
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["params.json", FILE, "tokenizer.model"]
    assert (tmp_path / "made/tokenizer.model").read_bytes() == (original / "tokenizer.model").read_bytes()
    params = json.loads((tmp_path / "made/params.json").read_text())
    assert params["quantization"] == {"kind": "int4", "group": 64, "layout": 1}
    assert params["dim"] == 64


@pytest.mark.parametrize("kind", QuantKind)
def test_weights_are_used_where_they_lie_in_the_file(
    original: Path, tmp_path: Path, kind: QuantKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is copied, and what the kernels read begins at a cache line."""
    convert(original, tmp_path / "made", kind)
    monkeypatch.setattr(MappedBytes, "copy", lambda *args: pytest.fail("copied"))
    model = load_model(tmp_path / "made", dtype=None, device=CPU, spread=keep_share)
    places = {name: parameter.data_ptr() % 64 for name, parameter in model.named_parameters()}
    even = [name for name, part in model.named_parameters() if part.nbytes % 64 == 0]  # not fp8's scales of 61 outputs
    assert {places[name] for name in even if name.endswith((".codes", ".scales", ".mins"))} == {0}


def test_tensors_of_odd_sizes_do_not_move_the_others(tmp_path: Path) -> None:
    """A block of 16 outputs and 64 inputs has scales of 32 bytes; the embedding of 61 rows of 64 is odd in no dtype."""
    make_checkpoint(tmp_path / "original", Kind.MISTRAL_PTH, replace(EVEN, num_kv_heads=1, num_heads=1))
    convert(tmp_path / "original", tmp_path / "made", QuantKind.INT8)
    state = load_model(tmp_path / "made", dtype=None, device=CPU).state_dict()
    assert state["layers.0.attention.wk.scales"].nbytes == 32
    assert {tensor.data_ptr() % 64 for tensor in state.values() if tensor.nbytes % 64 == 0} == {0}


def test_sizes_and_shares(original: Path, tmp_path: Path) -> None:
    """Counted by hand: a layer has 64 x 64 matrices only, but for wk and wv of 32 x 64; 61 outputs fill 4 blocks."""
    convert(original, tmp_path / "made", QuantKind.INT8)
    found, expert = summarize(tmp_path / "made", 4), 2 * 3 * 64 * 64
    attention, head = 2 * (2 * 64 * 64 + 2 * 32 * 64), 61 * 64
    wide = 2 * (61 * 64 + 64 + 2 * (2 * 64 + 4 * 64))
    assert found.quantized is not None
    assert found.quantized.num_params == 4 * expert + attention + head
    assert found.quantized.nbytes == (4 * expert + attention + 64 * 64) * 8.25 / 8
    assert found.quantized.bits_per_weight == pytest.approx(8.25, rel=0.01)
    assert found.expert_nbytes == expert * 8.25 / 8
    assert found.shared_nbytes == (attention + 64 * 64) * 8.25 / 8 + wide
    assert found.ranks[3] == RankShare(3, (3,), found.shared_nbytes + found.expert_nbytes)
    assert found.dtype == torch.bfloat16
    assert summarize(original, 4, QuantKind.INT8).quantized == found.quantized


def test_what_is_not_quantized_keeps_its_bits(original: Path, tmp_path: Path) -> None:
    convert(original, tmp_path / "made", QuantKind.INT8)
    wide = load_model(original, dtype=None, device=CPU).state_dict()
    kept = {name: tensor for name, tensor in load_file(tmp_path / "made" / FILE).items() if name.endswith(".weight")}
    assert all(torch.equal(tensor, wide[name]) for name, tensor in kept.items())
    assert len(kept) == 2 * 3 + 2


def test_progress_counts_what_is_written(original: Path, tmp_path: Path) -> None:
    seen: list[ByteProgress] = []
    convert(original, tmp_path / "made", QuantKind.INT8, seen.append)
    assert seen[-1].nbytes == seen[-1].total_nbytes == summarize(tmp_path / "made").nbytes


def test_what_is_there_is_not_touched(original: Path, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    with pytest.raises(CheckpointError, match="made exists already; give the name of a new folder"):
        convert(original, tmp_path / "made", QuantKind.INT8)
    (tmp_path / "other.converting").mkdir()
    with pytest.raises(CheckpointError, match="another convert is writing it, or was killed"):
        convert(original, tmp_path / "other", QuantKind.INT8)
    with pytest.raises(CheckpointError, match="nowhere is not a folder"):
        convert(original, tmp_path / "nowhere/made", QuantKind.INT8)


def test_a_quantized_checkpoint_is_not_quantized_again(original: Path, tmp_path: Path) -> None:
    convert(original, tmp_path / "made", QuantKind.INT8)
    with pytest.raises(CheckpointError, match="made is quantized to int8 already; give the folder of the original"):
        convert(tmp_path / "made", tmp_path / "again", QuantKind.INT8)
    with pytest.raises(UsageError, match="is quantized to int8 already, so it cannot be quantized to int4"):
        load_model(tmp_path / "made", dtype=None, device=CPU, quantize=QuantKind.INT4)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_conversion_leaves_nothing(
    original: Path, tmp_path: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(convert_file, "sync", fail)
    with pytest.raises((CheckpointError, KeyboardInterrupt)) as caught:
        convert(original, tmp_path / "made", QuantKind.INT8)
    assert os.listdir(tmp_path) == ["original"]
    if isinstance(error, OSError):
        assert "the disk is full before all" in str(caught.value)


def test_too_small_a_disk_is_said_before_writing(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 5, 5))
    with pytest.raises(CheckpointError, match="which has 5 free; make room or give another --output"):
        convert(original, tmp_path / "made", QuantKind.INT8)
    assert os.listdir(tmp_path) == ["original"]
