"""Who takes part: a command each, that tells the milliseconds of every measure."""

import sys
from dataclasses import dataclass
from pathlib import Path

from shape import BATCH_SIZES, PREFILL
from weights import gguf_files, our_checkpoints, vllm_folder

HERE = Path(__file__).parent
EXPERTS = ("eager", "grouped_mm")
DTYPES = ("bfloat16", "float32")


@dataclass(frozen=True)
class Contender:
    """`files` are read before it runs, so that they come from the page cache."""

    name: str
    command: tuple[str, ...]
    files: tuple[Path, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def system(self) -> str:
        """The first word of the name: mixtralkit, llama.cpp, ..."""
        return self.name.split()[0]


def ours(work: Path) -> list[Contender]:
    """`mixtralkit bench` on checkpoints in bfloat16, int8 and int4."""
    sizes = ",".join(map(str, BATCH_SIZES))
    options = (f"--batch-sizes={sizes}", f"--prefill={PREFILL}", "--repeats=1", "--report=json")
    command = (sys.executable, "-m", "mixtralkit.cli.main", "bench", *options)
    return [
        Contender(f"mixtralkit {kind}", (*command, "-m", str(folder)), tuple(sorted(folder.iterdir())))
        for kind, folder in our_checkpoints(work).items()
    ]


def llama_cpp(work: Path, python: Path, threads: int) -> list[Contender]:
    """llama.cpp in the kinds of file that are nearest to ours."""
    script = str(HERE / "llama_cpp_steps.py")
    return [
        Contender(f"llama.cpp {kind}", (str(python), script, str(file), str(threads)), (file,))
        for kind, file in gguf_files(work, python).items()
    ]


def transformers(python: Path, threads: int) -> list[Contender]:
    """transformers with each dtype and implementation of the experts, to find out which is best here."""
    script = str(HERE / "transformers_steps.py")
    return [
        Contender(f"transformers {dtype} {experts}", (str(python), script, dtype, experts, str(threads)))
        for dtype in DTYPES
        for experts in EXPERTS
    ]


def vllm(work: Path, python: Path) -> list[Contender]:
    """vLLM's CPU build."""
    command = (str(python), str(HERE / "vllm_steps.py"), str(vllm_folder(work)))
    return [Contender("vllm bf16", command, variables=(("VLLM_CPU_KVCACHE_SPACE", "2"),))]
