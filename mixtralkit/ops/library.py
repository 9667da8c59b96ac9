"""The compiled extensions: each loaded when it is first asked for, and why it is not there where it is not.

setup.py builds csrc/ into mixtralkit/_*.abi3.so, which register their operators with torch when they are loaded: the
kernels for the CPU in _C, those for GPUs in _cuda, and those over NCCL in _nccl. An op asks `available()` and calls
`ops()`, or does without; only files of ops/ and the dispatches made of kernels do so.
"""

from functools import cache
from pathlib import Path
from typing import Any

import torch

from mixtralkit.errors import UsageError
from mixtralkit.log import get_logger, notice
from mixtralkit.ops.fake_kernels import register_fake_kernels

PACKAGE = Path(__file__).parents[1]
CPU, CUDA, NCCL = "_C", "_cuda", "_nccl"
# What each takes to be built, besides torch.
_NEEDS = {CPU: "a C++ compiler", CUDA: "a C++ compiler, nvcc and a torch for CUDA", NCCL: "a C++ compiler and nccl.h"}
# What the ops compute with, in ascending order: torch's operators, or the kernels of one of the variants.
VARIANTS = ("torch", "portable", "avx2", "avx512")
_logger = get_logger(__name__)
_kernels_wanted = True  # as use_variant has it


def available() -> bool:
    """Whether the operators for the CPU can be called. Says so, once and on rank 0, when they cannot."""
    problem = why_not()
    if problem is not None:
        notice(_logger, f"no native kernels, torch's operators are used: {problem}; `mixtralkit doctor` tells more")
    return problem is None


def why_not(name: str = CPU) -> str | None:
    """Why the extension `name` cannot be used, in one line; None when it can."""
    return load(PACKAGE, name)


@cache
def load(folder: Path, name: str = CPU) -> str | None:
    """Load the extension `name` in `folder`, once a process; returns why that failed, or None.

    The schemas of operators that exist on the CPU too are in _C, so the others are loaded behind it.
    """
    found = sorted(folder.glob(f"{name}.*.so"))
    if not found:
        return _why_not_built(folder / f"{name}.why_not", _NEEDS[name])
    if name != CPU and (problem := load(folder)) is not None:
        return problem
    try:
        torch.ops.load_library(str(found[0]))
    except (OSError, RuntimeError) as error:
        words = f"{found[0].name} does not load into torch {torch.__version__} ({_one_line(str(error))})"
        return f"{words}; install mixtralkit again to build it anew"
    if name == CPU:
        register_fake_kernels()
    return None


@cache
def ops_if_available() -> Any | None:
    """What `ops` returns, or None where torch's operators are to be used. Fast enough for every call of every op."""
    return ops() if _kernels_wanted and available() else None


def ops(name: str = CPU) -> Any:
    """The namespace of the operators, `torch.ops.mixtralkit`. Only where `why_not(name)` says that nothing is wrong."""
    assert why_not(name) is None, why_not(name)
    return torch.ops.mixtralkit


def variant() -> str:
    """Which of `VARIANTS` computes: the best that this processor has, "torch" where the extension is not there."""
    return "torch" if ops_if_available() is None else str(ops().cpu_variant())


def use_variant(name: str) -> None:
    """Compute with the variant `name` from now on, in this process.

    Raises `UsageError` naming those that this processor has for any other.
    """
    global _kernels_wanted
    if name != "torch":
        if not available():
            raise UsageError(f"there is no variant {name!r}, only torch: {why_not()}")
        try:
            ops().use_cpu_variant(name)
        except RuntimeError as error:
            raise UsageError(_one_line(str(error))) from error
    _kernels_wanted = name != "torch"
    ops_if_available.cache_clear()


def _why_not_built(record: Path, needs: str) -> str:
    try:
        return f"left out when mixtralkit was installed: {_one_line(record.read_text(encoding='utf-8'))}"
    except OSError:
        return f"not built; installing mixtralkit builds them where there is {needs}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
