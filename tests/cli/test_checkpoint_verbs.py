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


def test_a_quantized_checkpoint_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The demo model: 5,701,632 of 6,501,120 parameters are in matrices that are quantized."""
    demo = Path(__file__).parents[2] / "demo" / "shakespeare"
    made = str(tmp_path / "made")
    assert main(["convert", "-m", str(demo), "--output", made, "--quantize", "int4"]) == 0
    kept_as = "int4, 4.5 bits a weight, for 87.7%; the rest bfloat16"
    assert capsys.readouterr().out == f"{made}: 4.81 MB, {kept_as}\n"
    assert main(["inspect", made]) == 0
    out = capsys.readouterr().out
    assert f"kept as      {kept_as}" in out
    assert "form         quantized .safetensors" in out
    assert main(["verify", made]) == 0
    assert main(["convert", made, "--output", made, "--quantize", "int4"]) == 1
    assert "is quantized to int4 already" in capsys.readouterr().err


def test_convert_needs_to_be_told_where_and_to_what(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(folder), "--quantize", "int8"]) == 2
    assert "--output DIR is missing" in capsys.readouterr().err
    assert main(["convert", str(folder), "--output", "x", "--quantize", "int16"]) == 2
    assert "--quantize is 'int16'; choose one of int8, int4, fp8 (did you mean int" in capsys.readouterr().err


def test_inspect_shows_replicas_where_there_are_more_ranks_than_experts(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(folder), "--world-size", "6"]) == 0
    held = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[-6:]]
    assert held == [["0", "0"], ["1", "1"], ["2", "2"], ["3", "3"], ["4", "4"], ["5", "0"]]
