"""The extension as it was built, and what is said where it was not."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mixtralkit.errors import UsageError
from mixtralkit.ops import library

# Asked without `available()`, which would log.
built = pytest.mark.skipif(library.why_not() is not None, reason=f"native kernels: {library.why_not()}")


@pytest.fixture
def _same_variant_after() -> Iterator[None]:
    before = library.variant()
    yield
    library.use_variant(before)


@built
@pytest.mark.usefixtures("_same_variant_after")
def test_every_variant_up_to_the_best_can_be_chosen() -> None:
    """At first the best runs; any lower one can be asked for, and the best again."""
    best = library.VARIANTS.index(library.variant())
    there = library.VARIANTS[: best + 1]
    for name in (*there, *reversed(there), there[-1]):
        library.use_variant(name)
        assert library.variant() == name


@built
@pytest.mark.usefixtures("_same_variant_after")
@pytest.mark.parametrize("name", ["neon", "", "AVX2", "avx51"])
def test_another_variant_is_refused_with_those_there_are(name: str) -> None:
    before = library.variant()
    with pytest.raises(UsageError, match=f"no variant '{name}' .* which has: portable"):
        library.use_variant(name)
    assert library.variant() == before


@built
@pytest.mark.usefixtures("_same_variant_after")
def test_a_refused_variant_changes_nothing() -> None:
    library.use_variant("torch")
    with pytest.raises(UsageError):
        library.use_variant("nonsense")
    assert library.variant() == "torch"


def test_a_build_that_was_not_made(tmp_path: Path) -> None:
    assert library.load(tmp_path) == "not built; installing mixtralkit builds them where there is a C++ compiler"


@pytest.mark.parametrize(
    ("name", "needs"),
    [(library.CUDA, "a C++ compiler, nvcc and a torch for CUDA"), (library.NCCL, "a C++ compiler and nccl.h")],
)
def test_a_further_library_that_was_not_made(name: str, needs: str, tmp_path: Path) -> None:
    """It says what it takes."""
    assert library.load(tmp_path, name) == f"not built; installing mixtralkit builds them where there is {needs}"
    (tmp_path / f"{name}.why_not").write_text("there is no compiler for it\n")
    library.load.cache_clear()
    assert str(library.load(tmp_path, name)).endswith(
        "left out when mixtralkit was installed: there is no compiler for it"
    )


def test_a_build_that_was_left_out_at_installation(tmp_path: Path) -> None:
    (tmp_path / "_C.why_not").write_text("there is no C++ compiler;\ninstall one\n")
    assert library.load(tmp_path) == "left out when mixtralkit was installed: there is no C++ compiler; install one"


def test_a_build_that_does_not_load(tmp_path: Path) -> None:
    """The loader's own words say which file, and what it misses."""
    (tmp_path / "_C.abi3.so").write_bytes(b"not a library")
    problem = library.load(tmp_path)
    assert problem is not None
    assert problem.startswith("_C.abi3.so does not load into torch ")
    assert str(tmp_path) in problem
    assert problem.endswith("; install mixtralkit again to build it anew")


def test_its_absence_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(library, "PACKAGE", tmp_path)
    with caplog.at_level(logging.WARNING, logger="mixtralkit"):
        assert not library.available()
        assert not library.available()
    assert [record.getMessage() for record in caplog.records] == [
        f"no native kernels, torch's operators are used: {library.why_not()}; `mixtralkit doctor` tells more"
    ]


def test_importing_loads_nothing() -> None:
    code = "import torch, mixtralkit.ops.library; assert not torch.ops.loaded_libraries"
    subprocess.run([sys.executable, "-c", code], check=True)
