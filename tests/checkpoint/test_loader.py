"""Which parameters are read, in which dtype, and that nothing else is."""

from pathlib import Path

import pytest
import torch

from mixtralkit.checkpoint import loader, memory_room
from mixtralkit.checkpoint.loader import LoadProgress, load_model
from mixtralkit.checkpoint.mapped_bytes import MappedBytes
from mixtralkit.errors import LaunchError
from tests.checkpoint.make_checkpoints import TINY, Kind, make_checkpoint, mistral_state
from tests.checkpoint.share import KEPT, keep_share

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", Kind)
def test_a_share_has_the_right_experts_under_their_own_names(tmp_path: Path, kind: Kind) -> None:
    """Equal, not close: loading computes nothing."""
    expected = mistral_state(make_checkpoint(tmp_path, kind), TINY)
    model = load_model(tmp_path, dtype=None, device=CPU, spread=keep_share)
    state = model.state_dict()
    kept = [name for name in expected if ".experts." not in name or int(name.split(".")[4]) in KEPT]
    assert sorted(state) == sorted(kept)
    assert all(torch.equal(state[name], expected[name]) for name in kept)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("kind", Kind)
def test_a_share_reads_only_its_bytes(tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes asked of the files are exactly those of the parameters, also out of stacked tensors."""
    make_checkpoint(tmp_path, kind)
    asked: list[int] = []
    view, copy = MappedBytes.view, MappedBytes.copy

    def counted_view(self: MappedBytes, offset: int, nbytes: int, alignment: int = 1) -> torch.Tensor:
        before = len(asked)
        found = view(self, offset, nbytes, alignment)
        if len(asked) == before:  # a view that straddles parts or is not aligned there has asked for a copy
            asked.append(nbytes)
        return found

    def counted_copy(self: MappedBytes, offset: int, nbytes: int) -> torch.Tensor:
        asked.append(nbytes)
        return copy(self, offset, nbytes)

    monkeypatch.setattr(MappedBytes, "view", counted_view)
    monkeypatch.setattr(MappedBytes, "copy", counted_copy)
    model = load_model(tmp_path, dtype=None, device=CPU, spread=keep_share)
    assert sum(asked) == sum(parameter.nbytes for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", [Kind.SPLIT_PTH, Kind.STACKED, Kind.HF])
def test_dtypes(tmp_path: Path, kind: Kind, stored: torch.dtype, dtype: torch.dtype) -> None:
    expected = mistral_state(make_checkpoint(tmp_path, kind, dtype=stored), TINY)
    model = load_model(tmp_path, dtype=dtype, device=CPU)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, expected[name].to(stored).to(dtype)), name
    own = load_model(tmp_path, dtype=None, device=CPU)
    assert {parameter.dtype for parameter in own.parameters()} == {stored}


def test_a_stray_dtype_follows_the_rest(tmp_path: Path) -> None:
    """Gates in float32 beside bfloat16 experts: the model has one dtype, the one of most bytes."""
    state = {
        name: tensor if "gate" in name else tensor.bfloat16()
        for name, tensor in mistral_state(make_checkpoint(tmp_path, Kind.MISTRAL_PTH), TINY).items()
    }
    torch.save(state, tmp_path / "consolidated.00.pth")
    model = load_model(tmp_path, dtype=None, device=CPU)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_progress_counts_what_this_rank_loads(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, Kind.HF, dtype=torch.bfloat16)
    seen: list[LoadProgress] = []
    model = load_model(tmp_path, dtype=torch.float32, device=CPU, spread=keep_share, on_progress=seen.append)
    names = [name for name, _ in model.named_parameters()]
    assert [progress.name for progress in seen] == names
    nbytes = sum(parameter.numel() * 2 for parameter in model.parameters())
    assert seen[-1] == LoadProgress(names[-1], len(names), len(names), nbytes, nbytes)


def test_too_little_memory_is_said_with_numbers_before_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_checkpoint(tmp_path, Kind.MISTRAL_PTH)
    monkeypatch.setattr(memory_room, "free_memory", lambda device: 20_000)
    monkeypatch.setattr(loader, "fill", lambda *args, **options: None)
    load_model(tmp_path, dtype=None, device=CPU)  # stays in the file
    with pytest.raises(LaunchError, match=r"need 0.0 GB on cpu, which has 0.0 GB free; use more ranks"):
        load_model(tmp_path, dtype=torch.bfloat16, device=CPU)
