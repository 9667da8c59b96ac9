"""What `doctor` looks at, each as a finding. Nothing here fails: what is absent is a finding too."""

import importlib.metadata
import importlib.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mixtralkit import __version__
from mixtralkit.cli.strategy_notices import unknown_variables
from mixtralkit.env import fastermoe_variables, requested_threads
from mixtralkit.errors import UsageError
from mixtralkit.fastermoe_env import fastermoe_env

# The lowest versions that are supported, as in requirements.txt.
REQUIRED = {
    "torch": "2.10",
    "sentencepiece": "0.2.1",
    "fire": "0.7",
    "numpy": "2.0",
    "fastapi": "0.115",
    "starlette": "0.46",
    "pydantic": "2.9",
    "uvicorn": "0.34",
    "h11": "0.16",
    "prometheus-client": "0.21",
    "llguidance": "1.0",
}

State = Literal["ok", "no", "missing"]


@dataclass(frozen=True)
class Finding:
    """One line: "ok" is there, "no" is absent and not needed for everything, "missing" keeps anything from running."""

    name: str
    state: State
    words: str


def software() -> Iterator[Finding]:
    """Python and the packages that mixtralkit needs."""
    yield Finding("mixtralkit", "ok", __version__)
    yield Finding("python", "ok", f"{platform.python_version()} at {sys.executable}, {platform.platform()}")
    for package, lowest in REQUIRED.items():
        yield _package(package, lowest)
    found = importlib.util.find_spec("fmoe") is not None
    yield Finding("fastmoe", "ok" if found else "no", "installed; not needed" if found else "not installed; not needed")


def compilers() -> Iterator[Finding]:
    """What could build kernels."""
    for name, programs in {"C++ compiler": ("c++", "g++", "clang++"), "nvcc": ("nvcc",)}.items():
        path = next((path for program in programs if (path := shutil.which(program))), None)
        absent = f"none of {', '.join(programs)} in PATH; needed only to build native kernels"
        yield Finding(name, "ok" if path else "no", f"{path}, {_version_line(path)}" if path else absent)


def settings() -> Iterator[Finding]:
    """Environment variables with a meaning here."""
    threads = requested_threads()
    yield Finding(
        "OMP_NUM_THREADS", "ok", f"{threads} threads a rank" if threads else "not set: the ranks share the cores"
    )
    yield _fastermoe()


def _fastermoe() -> Finding:
    """FasterMoE's variables: those that are set, or the first that cannot be read."""
    try:
        unknown = unknown_variables(fastermoe_env())
    except UsageError as error:
        return Finding("FMOE_*", "no", str(error))
    settings = ", ".join(f"{name}={value}" for name, value in fastermoe_variables().items() if value.strip())
    return Finding("FMOE_*", "no" if unknown else "ok", "; ".join([settings or "none set", *unknown]))


def _package(name: str, lowest: str) -> Finding:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "missing", f"not installed; pip install '{name}>={lowest}'")
    if _numbers(version) < _numbers(lowest):
        return Finding(name, "missing", f"{version} is too old; pip install '{name}>={lowest}'")
    return Finding(name, "ok", version)


def _numbers(version: str) -> tuple[int, ...]:
    """The release numbers of a version: 2.13.0+cpu is (2, 13, 0)."""
    parts = version.partition("+")[0].split(".")
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in parts)


def _version_line(path: str) -> str:
    try:
        output = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return "which does not answer --version"
    lines = [line for line in output.splitlines() if "release" in line] or output.splitlines()
    return lines[0] if lines else "without a version"
