"""merge, verify and inspect as a user sees them; what they find is tested in tests/checkpoint/."""

import hashlib
import shutil
from pathlib import Path

import pytest

from mixtralkit.cli.main import main
from mixtralkit.config import read_config
from tests.checkpoint.make_checkpoints import split_file
from tests.cli.conftest import CONFIG


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint that a test may change."""
    return Path(shutil.copytree(checkpoint, tmp_path / "ckpts"))


def test_merge_shows_the_md5_of_what_it_joined(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = folder / "consolidated.00.pth"
    content = whole.read_bytes()
    split_file(whole, 11)
    assert main(["merge", str(folder)]) == 0
    assert whole.read_bytes() == content
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{whole}: {len(content):,} bytes", f"md5 {hashlib.md5(content).hexdigest()}"]


def test_merge_names_a_missing_part(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split_file(folder / "consolidated.00.pth", 5)[2].unlink()
    assert main(["merge", "-m", str(folder)]) == 1
    assert "consolidated.00.pth-split2" in capsys.readouterr().err


def test_verify_tells_good_from_bad_by_its_exit_status(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(folder)]) == 0
    assert "no problem found" in capsys.readouterr().out
    weights = folder / "consolidated.00.pth"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(bytes(content))
    assert main(["verify", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "CRC-32" in out
    assert "1 problem found in" in out


def test_verify_says_when_it_could_not_check_the_vocabulary(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "tokenizer.model").unlink()
    assert main(["verify", str(folder)]) == 0
    assert "There is no tokenizer.model, so the vocabulary was not checked" in capsys.readouterr().out


def test_verify_writes_a_manifest_that_later_runs_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(folder), "--write-manifest"]) == 0
    params = folder / "params.json"
    params.write_text(params.read_text() + " ")
    assert main(["verify", str(folder)]) == 1
    assert f"{params} does not have the sha256" in capsys.readouterr().out


def test_inspect_shows_the_shape_and_what_each_rank_would_hold(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(folder), "--world-size", "3"]) == 0
    out = capsys.readouterr().out
    assert read_config(folder) == CONFIG
    for words in (
        "Mistral .pth",
        "tokenizer.model",
        "5 a layer, top 2",
        "320, context 20000",
        f"{CONFIG.num_params:,}",
    ):
        assert words in out
    assert [line.split()[:2] for line in out.splitlines()[-3:]] == [["0", "0-1"], ["1", "2-3"], ["2", "4"]]


def test_inspect_refuses_more_ranks_than_experts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder), "--world-size", "6"]) == 2
    assert "6 ranks cannot share 5 experts" in capsys.readouterr().err
