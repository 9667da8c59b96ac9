"""csrc/build.py: flags by variant, and an install that succeeds where the kernels cannot be compiled.

The compile itself is not repeated here: `make` has done it, and tests/ops/test_library.py looks at what came out.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from csrc import build
from mixtralkit.ops import library

ROOT = Path(__file__).parent.parent
NO_COMPILER = {"CC": "/bin/false", "CXX": "/bin/false"}
ABSENT_COMPILER = {"CXX": "/nowhere/c++"}


def test_a_name_tells_the_variant() -> None:
    names = ("csrc/cpu/kernels_avx2.cpp", "csrc/cpu/kernels_avx512.cpp", "csrc/bindings.cpp", "csrc/avx2/gate.cpp")
    assert [build.variant_of(name) for name in names] == ["avx2", "avx512", "portable", "portable"]


def test_other_processors_get_no_flags_of_x86() -> None:
    assert "-mavx512f" in build.variant_flags("avx512", "linux-x86_64")
    assert "-mavx512f" not in build.variant_flags("avx2", "linux-x86_64")
    assert build.variant_flags("portable", "linux-x86_64") == ()
    assert build.variant_flags("avx512", "linux-aarch64") == build.variant_flags("avx2", "macosx-11.0-arm64") == ()


def test_the_note_has_the_name_that_the_package_reads(tmp_path: Path) -> None:
    """For each of the libraries."""
    assert set(build.FOLDERS) == {library.CPU, library.CUDA, library.NCCL}
    (tmp_path / build.why_not_file(library.CPU)).write_text("no luck\n")
    assert library.load(tmp_path) == "left out when mixtralkit was installed: no luck"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What setup.py needs, with an extension of an earlier build."""
    for name in ("setup.py", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    (tmp_path / "mixtralkit").mkdir()
    shutil.copy(ROOT / "mixtralkit" / "__init__.py", tmp_path / "mixtralkit")
    (tmp_path / "mixtralkit" / "_C.abi3.so").write_bytes(b"of other sources")
    return tmp_path


def build_ext(folder: Path, *options: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", *options]
    environment = {**os.environ, **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (NO_COMPILER, "the compiler failed"),
        (ABSENT_COMPILER, "there is no C++ compiler '/nowhere/c++'; install one, such as g++, or name it in CXX"),
        ({"PYTHONPATH": "without_torch"}, "torch could not be imported (no such package)"),
    ],
)
def test_installing_goes_on_without_kernels(copy: Path, variables: dict[str, str], words: str) -> None:
    """The reason is on the screen and where the package finds it, and no older build is left to be loaded."""
    (copy / "without_torch").mkdir()
    (copy / "without_torch" / "torch.py").write_text("raise ImportError('no such package')\n")
    run = build_ext(copy, **variables)
    assert run.returncode == 0, run.stderr
    assert "native kernels are left out, torch's operators will do the work: " + words in run.stdout + run.stderr
    assert str(library.load(copy / "mixtralkit")).startswith(f"left out when mixtralkit was installed: {words}")
    assert not (copy / "mixtralkit" / "_C.abi3.so").exists()


def test_strict_builds_fail(copy: Path) -> None:
    """`make kernels` must not pass where nothing was compiled."""
    assert build_ext(copy, "--strict", **ABSENT_COMPILER).returncode != 0
