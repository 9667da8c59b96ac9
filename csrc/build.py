"""How setup.py compiles csrc/ into mixtralkit/_C.abi3.so: against torch's stable ABI, or not at all.

Installing never fails here. Where the kernels cannot be built (no torch, no compiler, an error of the compiler), the
reason goes on the screen and into mixtralkit/_C.why_not, which mixtralkit/ops/library.py reads; torch's own operators
do the work then. The extension is loaded as a library of operators, not imported, so nothing of Python is linked.
"""

import importlib.util
import site
import sys
import sysconfig
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from setuptools import Extension
from setuptools.command.build_ext import build_ext

CSRC = Path(__file__).parent
NAME = "mixtralkit._C"
WHY_NOT = "_C.why_not"
# The lowest torch that the build serves, 2.10, as TORCH_TARGET_VERSION spells it.
LOWEST_TORCH = "0x020a000000000000"
# Explicit fused multiply-adds only: what the compiler fuses by itself differs between compilers and variants.
FLAGS = (
    "-O3",
    "-std=c++20",
    "-Wall",
    "-Wextra",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-fvisibility-inlines-hidden",
    f"-DTORCH_TARGET_VERSION={LOWEST_TORCH}",
    f"-ffile-prefix-map={CSRC.parent}/=",  # messages name csrc/..., wherever it was compiled
)
# Further flags of the sources whose names end in a variant, on processors that have it; the others compile them to nothing.
VARIANTS = {
    "_avx2": ("-mavx2", "-mfma", "-mf16c"),
    "_avx512": (
        *("-mavx2", "-mfma", "-mf16c"),
        *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mavx512bf16"),
    ),
}


def native_extension() -> Extension:
    """The extension with all sources; what only torch knows is added when it is built."""
    root = CSRC.parent
    return Extension(
        NAME,
        sources=sorted(path.relative_to(root).as_posix() for path in CSRC.rglob("*.cpp")),
        depends=sorted(path.relative_to(root).as_posix() for path in CSRC.rglob("*.h")),
        include_dirs=[str(CSRC)],
        libraries=["torch_cpu"],
        language="c++",
        py_limited_api=True,
    )


def variant_flags(source: str) -> tuple[str, ...]:
    """The further flags of one source: none, or those of the variant that its name ends in."""
    if not sysconfig.get_platform().endswith(("x86_64", "amd64")):
        return ()
    return next((flags for ending, flags in VARIANTS.items() if Path(source).stem.endswith(ending)), ())


class BuildNative(build_ext):
    """setuptools' command build_ext; torch's BuildExtension does its work, and its failures are no failures here."""

    def run(self) -> None:
        """Build the extension, or write down why it is left out."""
        try:
            _with_torch(self).run()
        except Exception as error:  # whatever a compiler or a torch may raise
            self._leave_out(f"{type(error).__name__}: {error}")
        else:
            self._why_not().unlink(missing_ok=True)

    def _leave_out(self, reason: str) -> None:
        # An older build would not fit the sources any more.
        for path in (Path(self.get_ext_fullpath(NAME)),):
            path.unlink(missing_ok=True)
        self._why_not().parent.mkdir(parents=True, exist_ok=True)
        self._why_not().write_text(f"{reason}\n", encoding="utf-8")
        self.warn(f"the native kernels are left out, torch's operators will be used: {reason}")

    def _why_not(self) -> Path:
        return Path(self.get_ext_fullpath(NAME)).parent / WHY_NOT


def _with_torch(command: BuildNative) -> Any:
    """torch's BuildExtension in the state of `command`. Raises ImportError where there is no torch."""
    _reach_torch()
    from torch.utils.cpp_extension import BuildExtension, include_paths, library_paths

    class Builder(BuildExtension):
        """BuildExtension that gives each source the flags of its variant."""

        def build_extension(self, extension: Extension) -> None:
            compile_all = self.compiler.compile
            self.compiler.compile = lambda sources, **options: _compile_by_flags(compile_all, sources, **options)
            try:
                super().build_extension(extension)
            finally:
                self.compiler.compile = compile_all

    builder = Builder(command.distribution)
    vars(builder).update({**vars(command), "force": builder.use_ninja or command.force})
    for extension in builder.extensions:
        headers = [flag for path in include_paths() for flag in ("-isystem", path)]
        extension.extra_compile_args = [*FLAGS, *headers]
        extension.library_dirs = library_paths()
    return builder


def _compile_by_flags(
    compile_all: Callable[..., list[str]], sources: Sequence[str], extra_postargs: Sequence[str], **options: Any
) -> list[str]:
    """`compile_all` once for all sources with the same flags; the names of the objects."""
    objects = []
    for flags, group in groupby(sorted(sources, key=variant_flags), key=variant_flags):
        objects += compile_all(list(group), extra_postargs=[*extra_postargs, *flags], **options)
    return objects


def _reach_torch() -> None:
    """Let torch be imported in pip's isolated build, which hides the packages of the environment it installs into."""
    if importlib.util.find_spec("torch") is None:
        candidates = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages())
        sys.path += [path for path in dict.fromkeys(candidates) if path not in sys.path]
