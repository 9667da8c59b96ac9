"""Where nccl.h and the CUDA headers that it needs are; the library itself is looked for when it is used."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from csrc.find_cuda import USUAL_PLACE, find_toolkit
from csrc.left_out import LeftOut

SYSTEM = ("/usr/include", "/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu")


def nccl_include_dirs() -> list[str]:
    """The folder of nccl.h, then that of cuda_runtime.h. Raises `LeftOut` naming the one that is nowhere.

    NCCL_HOME and CUDA_HOME come first, then the package that torch takes NCCL from (nvidia-nccl-cu13 or -cu12), then
    the toolkit and the system.
    """
    toolkit = _toolkit_dirs()
    nccl = [*_home("NCCL_HOME"), *_packaged("nccl"), *_home("CUDA_HOME"), *toolkit, *SYSTEM]
    cuda = [*_home("CUDA_HOME"), *toolkit, *_packaged("cuda_runtime"), *_packaged("cu1[0-9]"), *SYSTEM]
    return [
        _first_with("nccl.h", nccl, "install nvidia-nccl-cu13 (or -cu12), or name NCCL's folder in NCCL_HOME"),
        _first_with("cuda_runtime.h", cuda, "install the CUDA toolkit, or name its folder in CUDA_HOME"),
    ]


def _first_with(header: str, folders: Sequence[str], advice: str) -> str:
    for folder in folders:
        if (Path(folder) / header).is_file():
            return folder
    raise LeftOut(f"there is no {header}; {advice}")


def _home(variable: str) -> list[str]:
    home = os.environ.get(variable)
    return [str(Path(home) / "include")] if home else []


def _packaged(pattern: str) -> list[str]:
    """Of NVIDIA's packages for pip, which lie in a folder nvidia/ beside torch's."""
    return [str(path) for folder in sys.path for path in sorted(Path(folder).glob(f"nvidia/{pattern}/include"))]


def _toolkit_dirs() -> list[str]:
    try:
        return list(find_toolkit().include_dirs)
    except LeftOut:
        return [f"{USUAL_PLACE}/include"]
