"""Tensors by way of a device's memory, compared byte by byte with the same read on the CPU.

The device is memory of the host (host_uploads.py): layouts, dtypes and quantization are then computed by the CPU, with
the operators that a GPU has; that those give the same bits there, tests/ops/test_quantize.py sees to.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mixtralkit.checkpoint import loader, streaming
from mixtralkit.checkpoint.finite_checks import FiniteChecks
from mixtralkit.checkpoint.formats import detect
from mixtralkit.checkpoint.loader import LoadProgress, load_model
from mixtralkit.checkpoint.quantizing import WeightSource, open_weights
from mixtralkit.checkpoint.reader import Stretch
from mixtralkit.checkpoint.staging import Staging
from mixtralkit.checkpoint.streaming import stream
from mixtralkit.errors import CheckpointError
from mixtralkit.ops.quantized_weight import QuantKind
from tests.checkpoint.host_uploads import AtOnce, Late
from tests.checkpoint.make_checkpoints import TINY, Kind, make_checkpoint
from tests.checkpoint.share import keep_share

CPU, GPU = torch.device("cpu"), torch.device("cuda")
EVEN = replace(TINY, dim=64, hidden_dim=64, head_dim=16)


def streamed(
    weights: WeightSource, dtype: torch.dtype, uploads: AtOnce, names: list[str] | None = None
) -> dict[str, torch.Tensor]:
    names = names or list(weights.shapes)
    with closing(stream(weights, names, dtype, uploads, FiniteChecks(GPU))) as tensors:
        return dict(zip(names, tensors, strict=True))


def opened(folder: Path, quant: QuantKind | None = None) -> WeightSource:
    return open_weights(detect(folder), quant)


@pytest.fixture(autouse=True)
def _small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 300 bytes, so that tiny tensors go in pieces too, no piece ending where an element or a row does."""

    def small(uploads: AtOnce, stretches: list[Stretch]) -> Staging:
        return Staging(uploads, stretches, buffers=3, buffer_bytes=299)

    monkeypatch.setattr(streaming, "Staging", small)


@pytest.mark.parametrize("uploads", [AtOnce, lambda: Late(lambda: 0.0)])
@pytest.mark.parametrize("kind", Kind)
def test_tensors_are_those_of_the_files(tmp_path: Path, kind: Kind, uploads: Callable[[], AtOnce]) -> None:
    make_checkpoint(tmp_path, kind, dtype=torch.bfloat16)
    weights = opened(tmp_path)
    for name, tensor in streamed(weights, torch.bfloat16, uploads()).items():
        expected = weights.read(name, torch.bfloat16, CPU)
        assert torch.equal(tensor.view(torch.int16), expected.view(torch.int16)), name
        assert tensor.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", [Kind.SPLIT_PTH, Kind.STACKED, Kind.HF])
def test_dtypes(tmp_path: Path, kind: Kind, stored: torch.dtype, dtype: torch.dtype) -> None:
    make_checkpoint(tmp_path, kind, dtype=stored)
    weights = opened(tmp_path)
    found = streamed(weights, dtype, AtOnce())
    assert {tensor.dtype for tensor in found.values()} == {dtype}
    assert all(torch.equal(tensor, weights.read(name, dtype, CPU)) for name, tensor in found.items())


@pytest.mark.parametrize("quant", QuantKind)
@pytest.mark.parametrize("kind", [Kind.SPLIT_PTH, Kind.STACKED, Kind.HF_FUSED])
def test_quantized_on_the_way(tmp_path: Path, kind: Kind, quant: QuantKind) -> None:
    make_checkpoint(tmp_path, kind, EVEN)
    weights, again = opened(tmp_path, quant), opened(tmp_path, quant)
    for name, tensor in streamed(weights, torch.bfloat16, Late(lambda: 0.0)).items():
        expected = again.read(name, torch.bfloat16, CPU)
        assert tensor.dtype == expected.dtype
        assert torch.equal(tensor.view(torch.uint8), expected.view(torch.uint8)), name


def test_a_matrix_that_does_not_lie_in_rows(tmp_path: Path) -> None:
    """It was transposed, and saved with its strides."""
    make_checkpoint(tmp_path, Kind.MISTRAL_PTH)
    state = torch.load(tmp_path / "consolidated.00.pth", weights_only=True)
    state["layers.0.attention.wo.weight"] = state["layers.0.attention.wo.weight"].t().contiguous().t()
    torch.save(state, tmp_path / "consolidated.00.pth")
    found = streamed(opened(tmp_path), torch.float32, AtOnce())
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_bytes_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of a quantized matrix come of the same bytes."""
    make_checkpoint(tmp_path, Kind.MISTRAL_PTH, EVEN)
    taken: list[Stretch] = []

    def noted(uploads: AtOnce, stretches: list[Stretch]) -> Staging:
        taken.extend(stretches)
        return Staging(uploads, stretches)

    monkeypatch.setattr(streaming, "Staging", noted)
    streamed(opened(tmp_path, QuantKind.INT4), torch.float32, AtOnce())
    whole = opened(tmp_path)
    assert sum(stretch.nbytes for stretch in taken) == sum(whole.stored_nbytes(name) for name in whole.shapes)


def on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the loader take the way of a GPU, and its tensors stay here."""
    monkeypatch.setattr(streaming, "CudaUploads", lambda device: Late(lambda: 0.0))
    monkeypatch.setattr(loader, "check_room", lambda **sizes: None)


@pytest.mark.parametrize("kind", [Kind.SPLIT_PTH, Kind.HF_FUSED])
def test_a_share_is_loaded_as_on_the_cpu(tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    make_checkpoint(tmp_path, kind)
    here: list[LoadProgress] = []
    there: list[LoadProgress] = []
    expected = load_model(tmp_path, dtype=None, device=CPU, spread=keep_share, on_progress=here.append).state_dict()
    on_a_device(monkeypatch)
    found = load_model(tmp_path, dtype=None, device=GPU, spread=keep_share, on_progress=there.append).state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert there == here


@pytest.mark.parametrize("quant", [None, QuantKind.INT4])
def test_what_is_not_finite_is_named_when_all_is_loaded(
    tmp_path: Path, quant: QuantKind | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_checkpoint(tmp_path, Kind.MISTRAL_PTH, EVEN)
    state = torch.load(tmp_path / "consolidated.00.pth", weights_only=True)
    name = "layers.0.ffn_norm.weight" if quant is None else "layers.0.attention.wo.weight"
    state[name][..., 5] = torch.nan
    torch.save(state, tmp_path / "consolidated.00.pth")
    on_a_device(monkeypatch)
    with pytest.raises(CheckpointError, match=f"{name} holds NaN"):
        load_model(tmp_path, dtype=None, device=GPU, quantize=quant)
