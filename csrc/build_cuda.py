"""How the kernels of csrc/cuda/*.cu are compiled: by nvcc alone, without torch, for every processor of `PROCESSORS`.

An object is kept while neither its source nor a header nor its command has changed. Beside it lies what ptxas said of
its kernels; resources.md has it as a table.
"""

import os
import shlex
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from csrc.find_cuda import Toolkit
from csrc.left_out import LeftOut
from csrc.resources import as_table, read_usage, spilling

CSRC = Path(__file__).parent
# A100; H100 and H200 with what only they have; B200.
PROCESSORS = ("sm_80", "sm_90a", "sm_100")
# Later ones compile this for themselves when they load it; the newest that the toolkit knows is taken.
PORTABLE = ("compute_100", "compute_90")
FLAGS = (
    *("-O3", "-std=c++20", "-lineinfo", "-fmad=false"),  # as in build.py: nothing is fused but by name
    *("-Xcompiler=-fPIC,-Wall,-fvisibility=hidden,-fvisibility-inlines-hidden", "-Xptxas=-v"),
)
STRICT = ("-Werror=all-warnings", "-Xcompiler=-Werror")
TABLE = "resources.md"
WANTED = "MIXTRALKIT_CUDA"


def refuse_unless_wanted(cuda_of_torch: str | None, *, strict: bool) -> None:
    """Raise `LeftOut` where compiling would only cost a user without a GPU minutes.

    `cuda_of_torch` is `torch.version.cuda`; MIXTRALKIT_CUDA=1 wants the kernels all the same.
    """
    if cuda_of_torch is None and not strict and os.environ.get(WANTED) != "1":
        raise LeftOut(f"torch is built without CUDA; {WANTED}=1 compiles them all the same")


def compile_kernels(toolkit: Toolkit, folder: Path, *, strict: bool) -> list[str]:
    """Compile what has changed into `folder`; returns the objects. Raises `RuntimeError` with nvcc's words.

    `strict` takes warnings, and registers that a kernel had to spill, for errors.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [toolkit.nvcc, *FLAGS, *(STRICT if strict else ()), *_processor_flags(toolkit.codes), f"-I{CSRC}"]
    sources = sorted((CSRC / "cuda").glob("*.cu"))
    objects = [folder / f"{source.stem}.o" for source in sources]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        said = list(pool.map(lambda pair: _compile(command, *pair), zip(sources, objects, strict=True)))
    usage = [one for words in said for one in read_usage(words)]
    (folder / TABLE).write_text(as_table(usage), encoding="utf-8")
    if strict and (names := spilling(usage)):
        raise RuntimeError(f"registers are spilled by {', '.join(names)}; see {folder / TABLE}")
    return [str(path) for path in objects]


def _processor_flags(codes: Sequence[str]) -> list[str]:
    real = [name for name in PROCESSORS if name in codes]
    portable = next((name for name in PORTABLE if name.replace("compute", "sm") in codes), None)
    if portable is None:
        raise LeftOut(f"this nvcc compiles for none of {', '.join(PORTABLE)}; install a newer CUDA toolkit")
    pairs = [*((name.replace("sm", "compute"), name) for name in real), (portable, portable)]
    return [f"-gencode=arch={arch},code={code}" for arch, code in pairs]


def _compile(command: Sequence[str], source: Path, target: Path) -> str:
    """Returns what ptxas said, now or when the object was made."""
    whole = shlex.join([*command, "-c", str(source), "-o", str(target)])
    record = target.with_suffix(".txt")
    made = record.read_text(encoding="utf-8").partition("\n") if target.exists() and record.exists() else None
    if made and made[0] == whole and target.stat().st_mtime > _newest(source):
        return made[2]
    run = subprocess.run(shlex.split(whole), capture_output=True, text=True, check=False)
    if run.returncode:
        target.unlink(missing_ok=True)
        raise RuntimeError(f"{whole}: {run.stdout}{run.stderr}")
    record.write_text(f"{whole}\n{run.stderr}", encoding="utf-8")
    return run.stderr


def _newest(source: Path) -> float:
    return max(path.stat().st_mtime for path in (source, *CSRC.rglob("*.h"), *CSRC.rglob("*.cuh")))
