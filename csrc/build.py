"""How setup.py compiles csrc/ into mixtralkit/_*.abi3.so: against torch's stable ABI, each library or not at all.

Installing does not fail here. Where a library cannot be built (no torch, no compiler, an error of the compiler), the
reason goes on the screen and into mixtralkit/_*.why_not, which mixtralkit/ops/library.py reads; the others are built.
`python setup.py build_ext --inplace --strict` fails instead, takes warnings and spilled registers for errors,
and leaves out only what this machine has no tools for.

Each extension is a library of operators, loaded and not imported: it needs nothing of Python, not even to be compiled.
"""

import importlib.util
import shlex
import shutil
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from setuptools import Extension
from setuptools.command.build_ext import build_ext

from csrc.build_cuda import compile_kernels, refuse_unless_wanted
from csrc.find_cuda import find_toolkit
from csrc.find_nccl import nccl_include_dirs
from csrc.left_out import LeftOut

CSRC = Path(__file__).parent
# What each library is made of, and what it must be linked with. The kernels of _cuda are added by build_cuda.py.
FOLDERS = {"_C": (".", "cpu", "peer", "split"), "_cuda": ("cuda",), "_nccl": ("nccl",)}
WHAT = {"_C": "native kernels", "_cuda": "native kernels for GPUs", "_nccl": "operators over NCCL"}
# The lowest torch that the build serves, 2.10, as TORCH_TARGET_VERSION spells it.
LOWEST_TORCH = "0x020a000000000000"
FLAGS = (
    *("-O3", "-g0", "-std=c++20", "-Wall", "-Wextra"),  # -g0: Python's own flags ask for debugging data, 7 MB of it
    *("-fvisibility=hidden", "-fvisibility-inlines-hidden"),
    "-ffp-contract=off",  # what a compiler fuses by itself would differ between variants; kernels fuse by name
    f"-ffile-prefix-map={CSRC.parent}/=",  # messages name csrc/..., wherever it was compiled
    f"-DTORCH_TARGET_VERSION={LOWEST_TORCH}",
)
# Further flags of a source whose name ends in a variant. Elsewhere than on x86-64 such a source must be empty.
AVX2 = ("-mavx2", "-mfma", "-mf16c")
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mavx512bf16")
VARIANTS = {"avx2": AVX2, "avx512": (*AVX2, *AVX512)}


def native_extensions() -> list[Extension]:
    """The extensions with all their sources; what depends on torch or has to be found is added when they are built."""
    return [extension for name in FOLDERS if (extension := _extension(name)).sources]


def why_not_file(name: str) -> str:
    """Where the reason is written, beside the library, when `name` (such as "_C") is left out."""
    return f"{name}.why_not"


def _extension(name: str) -> Extension:
    return Extension(
        f"mixtralkit.{name}",
        sources=[path for folder in FOLDERS[name] for path in _files(f"{folder}/*.cpp")],
        depends=_files("**/*.h", "**/*.cu", "**/*.map"),
        include_dirs=[str(CSRC)],
        libraries=["torch_cpu"],
        extra_link_args=[f"-Wl,--version-script={CSRC / 'exports.map'}"] if sys.platform == "linux" else [],
        language="c++",
        py_limited_api=True,
    )


def variant_of(source: str) -> str:
    """The variant that a source is compiled for: the one that its name ends in, or "portable"."""
    return next((name for name in VARIANTS if Path(source).stem.endswith(f"_{name}")), "portable")


def variant_flags(variant: str, platform: str) -> tuple[str, ...]:
    """The further flags of a variant's sources on `platform`, such as "linux-x86_64"."""
    return VARIANTS.get(variant, ()) if platform.endswith(("x86_64", "amd64")) else ()


class BuildNative(build_ext):  # type: ignore[misc]  # setuptools' commands have no types
    """The command build_ext: torch's BuildExtension does the work, and its failures are not those of the install."""

    user_options: ClassVar = [*build_ext.user_options, ("strict", None, "warnings are errors, and errors are fatal")]
    boolean_options: ClassVar = [*build_ext.boolean_options, "strict"]

    def initialize_options(self) -> None:
        """Start lenient."""
        super().initialize_options()
        self.strict = False

    def run(self) -> None:
        """Build the extensions, or leave out those that cannot be and write down why."""
        wanted, built = self.extensions, []
        for extension in wanted:
            self.extensions: list[Extension] = [extension]
            self._record(extension).unlink(missing_ok=True)
            try:
                with _installed_packages():
                    _torch_builder(self, extension).run()
                built.append(extension)
            except LeftOut as nothing_wrong:
                self._leave_out(extension, str(nothing_wrong))
            except Exception as error:  # whatever a compiler or somebody's torch may raise
                if self.strict:
                    raise
                self._leave_out(extension, _reason(error))
        self.extensions = built  # for those who ask this command what it has made

    def _leave_out(self, extension: Extension, reason: str) -> None:
        # An older build does not fit the sources any more.
        Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
        self._record(extension).parent.mkdir(parents=True, exist_ok=True)
        self._record(extension).write_text(f"{reason}\n", encoding="utf-8")
        self.warn(f"{WHAT[_short(extension)]} are left out, torch's operators will do the work: {reason}")

    def _record(self, extension: Extension) -> Path:
        return Path(self.get_ext_fullpath(extension.name)).with_name(why_not_file(_short(extension)))


def _torch_builder(command: BuildNative, extension: Extension) -> Any:
    """BuildExtension, with flags by variant, in the state of `command`, which has `extension` only.

    Raises ImportError where there is no torch, `LeftOut` where the extension is not to be built.
    """
    from torch.utils.cpp_extension import BuildExtension, get_cxx_compiler, include_paths, library_paths

    if shutil.which(compiler := shlex.split(get_cxx_compiler())[0]) is None:
        raise FileNotFoundError(f"there is no C++ compiler {compiler!r}; install one, such as g++, or name it in CXX")
    headers = (flag for path in include_paths() for flag in ("-isystem", path))
    extension.extra_compile_args = [*FLAGS, *(["-Werror"] if command.strict else []), *headers]
    extension.library_dirs = library_paths()
    if extension.name == "mixtralkit._cuda":
        _add_cuda(command, extension)
    if extension.name == "mixtralkit._nccl":
        extension.extra_compile_args += [flag for path in nccl_include_dirs() for flag in _system(path)]

    class Builder(BuildExtension):
        def build_extension(self, extension: Extension) -> None:
            # Without ninja BuildExtension changes the compiler for the time of a call: one at a time.
            at_once = len(VARIANTS) + 1 if self.use_ninja else 1
            folder = "." if extension.name == "mixtralkit._C" else _short(extension)
            compile_all = self.compiler.compile
            self.compiler.compile = partial(_compile_by_variant, compile_all, at_once=at_once, folder=folder)
            super().build_extension(extension)

    builder = Builder(command.distribution)
    builder.__dict__.update({**vars(command), "force": builder.use_ninja or command.force})
    return builder


def _add_cuda(command: BuildNative, extension: Extension) -> None:
    """Compile the kernels, and link them with CUDA's runtime, which becomes a part of the library."""
    import torch

    refuse_unless_wanted(torch.version.cuda, strict=command.strict)
    toolkit = find_toolkit()
    extension.extra_objects = compile_kernels(toolkit, Path(command.build_temp) / "cuda", strict=command.strict)
    extension.extra_compile_args += [flag for folder in toolkit.include_dirs for flag in ("-isystem", folder)]
    extension.library_dirs += toolkit.library_dirs
    extension.libraries += ["cudart_static", "dl", "rt", "pthread"]


def _compile_by_variant(
    compile_all: Callable[..., list[str]],
    sources: Sequence[str],
    output_dir: str,
    extra_postargs: Sequence[str],
    *,
    at_once: int,
    folder: str,
    **options: Any,
) -> list[str]:
    """Call `compile_all` for each variant's sources, `at_once` of them, each into a folder of its own in `folder`.

    Returns the names of the objects.
    """

    def compile_one(variant: str) -> list[str]:
        mine = [source for source in sources if variant_of(source) == variant]
        flags = [*extra_postargs, *variant_flags(variant, sysconfig.get_platform())]
        return compile_all(mine, output_dir=str(Path(output_dir) / folder / variant), extra_postargs=flags, **options)

    with ThreadPoolExecutor(at_once) as pool:
        return [name for names in pool.map(compile_one, sorted({*map(variant_of, sources)})) for name in names]


@contextmanager
def _installed_packages() -> Iterator[None]:
    """Let torch be imported in pip's isolated build too, which hides the packages of the environment it builds for."""
    hidden = importlib.util.find_spec("torch") is None
    folders = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages())
    before = list(sys.path)
    sys.path += [path for path in dict.fromkeys(folders) if hidden and path not in before]
    try:
        yield
    finally:
        sys.path[:] = before


def _files(*patterns: str) -> list[str]:
    found = {path for pattern in patterns for path in CSRC.glob(pattern)}
    return sorted(path.relative_to(CSRC.parent).as_posix() for path in found)


def _short(extension: Extension) -> str:
    return str(extension.name).rpartition(".")[2]


def _system(folder: str) -> tuple[str, ...]:
    """The flags of a folder of headers; naming the compiler's own anew would break the order in which it looks."""
    return () if folder == "/usr/include" else ("-isystem", folder)


def _reason(error: Exception) -> str:
    """One line that says what went wrong, and what to do."""
    words = " ".join(str(error).split())
    if isinstance(error, ImportError):
        return (
            f"torch could not be imported ({words}); install it, then mixtralkit again, with --no-build-isolation "
            "where the installer is not pip"
        )
    if isinstance(error, FileNotFoundError):
        return words
    return f"the compiler failed ({words}); see its messages with: python setup.py build_ext --inplace --strict"
