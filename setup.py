"""Builds and installs mixtralkit: the Python package, and the native kernels of csrc/ where they can be compiled."""

import re
import sys
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # a build backend runs this file without its folder in the path

from csrc.build import BuildNative, native_extensions  # noqa: E402


def read_version() -> str:
    """`__version__` of mixtralkit/__init__.py, read without importing it: its dependencies may not be there yet."""
    text = (HERE / "mixtralkit" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise RuntimeError('mixtralkit/__init__.py has no line __version__ = "..."')
    return match[1]


def read_requirements() -> list[str]:
    """The lines of requirements.txt that are not comments."""
    lines = (HERE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


setup(
    name="mixtralkit",
    version=read_version(),
    description="Runs Mixtral checkpoints with their experts spread over the ranks that torchrun starts",
    long_description=(HERE / "README.md").read_text(encoding="utf-8") if (HERE / "README.md").is_file() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["mixtralkit", "mixtralkit.*"]),
    package_data={"mixtralkit": ["py.typed", "serve/page/*", "ops/triton/tiles.json"]},
    ext_modules=native_extensions(),
    cmdclass={"build_ext": BuildNative},
    options={
        # The extensions have nothing of Python in them, so one wheel serves every Python.
        "bdist_wheel": {"py_limited_api": "cp310"},
        # Kept, so that installing again compiles only what has changed (where there is ninja).
        "build_ext": {"build_temp": "build/native"},
    },
    install_requires=read_requirements(),
    extras_require={"bench": ["matplotlib>=3.8"]},
    entry_points={"console_scripts": ["mixtralkit = mixtralkit.cli.main:main"]},
)
