"""NCCL's library as our operators use it: which file, which version, and why it cannot be used.

csrc/nccl/library.cpp looks for it when it is first asked for: what torch has loaded, else the file of the package that
pip installs, else what the system has.
"""

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from mixtralkit.env import nccl_multi_rank_gpu
from mixtralkit.ops import library

# From this version on several ranks may use one GPU, where the user asks for it.
SEVERAL_RANKS_A_GPU = (2, 30)


@dataclass(frozen=True)
class NcclFacts:
    """Versions such as "2.30.7": of the header that the operators were compiled with, of the library that they have
    found at `path`, and of the one that torch says it uses (None where torch has none).
    """

    header: str
    found: str
    path: str
    torch: str | None

    @property
    def mismatch(self) -> str | None:
        """How torch's NCCL differs from the one that was found; None where it does not."""
        if self.torch is not None and self.torch != self.found:
            return f"torch uses NCCL {self.torch}, and the operators have found {self.found} at {self.path}"
        return None


@cache
def nccl_facts() -> NcclFacts:
    """Find the library. Raises `RuntimeError` where there is none or one that cannot be used; see `why_not_library`."""
    ops = library.ops(library.NCCL)
    path = str(ops.nccl_open(_packaged()))
    header, found = (version_text(int(code)) for code in (ops.nccl_header_version(), ops.nccl_library_version()))
    return NcclFacts(header, found, path, _version_of_torch())


def why_not_library() -> str | None:
    """Why NCCL cannot be used through our operators, in one line; None when it can.

    Two NCCLs in one process, torch's and another, are refused: they would read the same variables and share the GPU.
    """
    if (problem := library.why_not(library.NCCL)) is not None:
        return f"it needs the operators over NCCL: {problem}"
    try:
        mismatch = nccl_facts().mismatch
    except RuntimeError as error:
        return f"it needs NCCL: {' '.join(str(error).split())}"
    return f"it needs the NCCL that torch has: {mismatch}" if mismatch else None


def why_not_nccl(device: torch.device, local_ranks: int) -> str | None:
    """Why a rank on `device`, one of `local_ranks` on its host, cannot use the dispatch nccl; None when it can.

    That the ranks have the same version is looked at when they join (nccl_exchange.py).
    """
    if device.type != "cuda":
        return f"it moves rows between GPUs, and this run is on {device.type}"
    if (problem := why_not_library()) is not None:
        return problem
    gpus = torch.cuda.device_count()
    return why_not_shared(nccl_facts().found, asked=nccl_multi_rank_gpu()) if local_ranks > gpus else None


def why_not_shared(version: str, *, asked: bool) -> str | None:
    """Why several ranks cannot use one GPU with NCCL `version`, where the user has `asked` for it or not."""
    if tuple(int(part) for part in version.split(".")[:2]) < SEVERAL_RANKS_A_GPU:
        return f"there are more ranks than GPUs, which NCCL allows from 2.30 on, and this is {version}"
    if not asked:
        return "there are more ranks than GPUs, which NCCL allows only with NCCL_MULTI_RANK_GPU_ENABLE=1"
    return None


def version_text(code: int) -> str:
    """Such as "2.32.3" of 23203, as NCCL codes its versions from 2.9 on."""
    return f"{code // 10000}.{code // 100 % 100}.{code % 100}"


def _version_of_torch() -> str | None:
    if not (torch.cuda.is_available() and torch.distributed.is_nccl_available()):
        return None
    return ".".join(map(str, torch.cuda.nccl.version()[:3]))


def _packaged() -> str:
    """The library of the package nvidia-nccl-cu13 or -cu12, "" where it is not installed."""
    try:
        found = importlib.util.find_spec("nvidia.nccl")
    except ModuleNotFoundError:  # there is nothing of NVIDIA's
        return ""
    folders = [] if found is None else list(found.submodule_search_locations or ())
    paths = (Path(folder) / "lib" / "libnccl.so.2" for folder in folders)
    return next((str(path) for path in paths if path.is_file()), "")
