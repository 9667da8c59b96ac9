"""Where the CUDA toolkit is: nvcc, and the folders of the headers and libraries that belong to it."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from csrc.left_out import LeftOut

USUAL_PLACE = "/usr/local/cuda"


@dataclass(frozen=True)
class Toolkit:
    """`codes` are the processors that `nvcc` can compile for, such as "sm_90a"."""

    nvcc: str
    include_dirs: tuple[str, ...]
    library_dirs: tuple[str, ...]
    codes: tuple[str, ...]


def find_toolkit() -> Toolkit:
    """The toolkit of CUDA_HOME, of the nvcc in the PATH, or in the usual place; raises `LeftOut` without any."""
    folders = [Path(folder) / "bin" for folder in (os.environ.get("CUDA_HOME"), USUAL_PLACE) if folder]
    paths = [*folders[:-1], *os.environ.get("PATH", "").split(os.pathsep), *folders[-1:]]
    nvcc = shutil.which("nvcc", path=os.pathsep.join(map(str, paths)))
    if nvcc is None:
        raise LeftOut("there is no nvcc; install the CUDA toolkit, or name its folder in CUDA_HOME")
    # The compiler may be a script that calls the real one: it says itself where its things are.
    plan = _output(nvcc, "--dryrun", "-c", "-x", "cu", os.devnull)
    return Toolkit(nvcc, _folders(plan, "INCLUDES", "-I"), _folders(plan, "LIBRARIES", "-L"), _codes(nvcc))


def _codes(nvcc: str) -> tuple[str, ...]:
    plain = _output(nvcc, "--list-gpu-code").split()
    return (*plain, *(f"{code}a" for code in plain if code == "sm_90"))


def _folders(plan: str, variable: str, option: str) -> tuple[str, ...]:
    line = re.search(rf"^#\$ {variable}=(.*)$", plan, re.MULTILINE)
    found = re.findall(rf'"{option}([^"]+)"', line[1]) if line else []
    return tuple(os.path.realpath(folder) for folder in found)


def _output(*command: str) -> str:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise LeftOut(f"{' '.join(command)} failed: {' '.join(run.stderr.split())[:200]}")
    return run.stdout + run.stderr
