"""NCCL for machines without a GPU: tests/native/fake_nccl.cpp, compiled, and put in NCCL's place in a process."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from csrc.find_nccl import nccl_include_dirs
from csrc.left_out import LeftOut
from mixtralkit.moe.dispatch import nccl_library
from mixtralkit.ops import library

SOURCE = Path(__file__).parents[2] / "native" / "fake_nccl.cpp"


def compile_fake(folder: Path) -> str:
    """The path of the library; skips the test where there are no headers, no compiler, or no operators to call it.

    It has the name of CUDA's driver, in whose place it is loaded too. Where torch has NCCL, operators take that one.
    """
    if torch.distributed.is_nccl_available():
        pytest.skip("nothing can stand in for the NCCL that this torch has loaded; see test_nccl_on_gpu.py")
    if (problem := library.why_not(library.NCCL)) is not None:
        pytest.skip(f"no operators over NCCL: {problem}")
    try:
        headers = [flag for path in nccl_include_dirs() for flag in ("-isystem", path)]
    except LeftOut as nothing:
        pytest.skip(str(nothing))
    if shutil.which("g++") is None:
        pytest.skip("there is no g++")
    made = str(folder / "fake_nccl.so")
    flags = ["-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-pthread"]
    command = ["g++", *flags, "-Wl,-soname,libcuda.so.1", *headers, str(SOURCE), "-o", made]
    subprocess.run(command, check=True)
    return made


class FakeNccl:
    """The library at `path` in this process, in the version `version`, as NCCL codes it, or the header's."""

    def __init__(self, path: str, version: int | None = None) -> None:
        self._counts = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        nccl_library._packaged = lambda: path
        if version is not None:
            os.environ["FAKE_NCCL_VERSION"] = str(version)

    def goes_wrong(self, how: str) -> None:
        """From now on; `how` is one of those at the top of the library's source."""
        os.environ["FAKE_NCCL"] = how

    @property
    def counts(self) -> tuple[int, int, int]:
        """Communicators that are there, those that were aborted so far, and groups of calls that were not closed."""
        return self._counts.fake_live(), self._counts.fake_aborts(), self._counts.fake_open_groups()
