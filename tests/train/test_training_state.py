"""The file of an interrupted training."""

from pathlib import Path

import pytest
import torch

from mixtralkit.train.training_state import TrainingState, read_state, write_state


def state(step: int) -> TrainingState:
    return TrainingState(
        step, 1.5, 2.25, {"w": torch.full((3,), float(step))}, {"state": {0: {"step": torch.tensor(2.0)}}}
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_state(tmp_path / "s.pth", state(3))
    write_state(tmp_path / "s.pth", state(4))
    read = read_state(tmp_path / "s.pth")
    assert (read.step, read.best_loss, read.seconds) == (4, 1.5, 2.25)
    assert torch.equal(read.model["w"], torch.full((3,), 4.0))
    assert [path.name for path in tmp_path.iterdir()] == ["s.pth"]


def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_state(tmp_path / "s.pth", state(3))

    def crash(fields: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(OSError, match="no space"):
        write_state(tmp_path / "s.pth", state(4))
    assert read_state(tmp_path / "s.pth").step == 3
