"""SHA256SUMS against coreutils' own tool, and its faults."""

import shutil
import subprocess
from pathlib import Path

import pytest

from mixtralkit.checkpoint.manifest import read_manifest, write_manifest
from mixtralkit.checkpoint.verify import verify
from mixtralkit.errors import CheckpointError
from tests.checkpoint.make_checkpoints import Kind, make_checkpoint


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs coreutils")
def test_sha256sum_agrees(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, Kind.HF_SHARDED)
    write_manifest(tmp_path)
    done = subprocess.run(
        ["sha256sum", "--check", "SHA256SUMS"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "config.json: OK" in done.stdout
    assert done.stdout.count("OK") == len(list(tmp_path.iterdir())) - 1


def test_a_listed_file_that_is_gone_is_named(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, Kind.HF)
    write_manifest(tmp_path)
    (tmp_path / "generation_config.json").unlink()
    (problem,) = verify(tmp_path)
    assert "generation_config.json is listed in SHA256SUMS but is not there" in problem.message


@pytest.mark.parametrize("line", ["hello", f"{'0' * 64}  ../outside", f"{'g' * 64}  x"])
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  x\n{line}\n")
    with pytest.raises(CheckpointError, match="SHA256SUMS, line 2, is not"):
        read_manifest(tmp_path)
