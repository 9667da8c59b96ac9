"""The extension's file: one build must serve every torch from 2.10 and any Python, and keep to itself."""

import ctypes
import sys
from pathlib import Path

import pytest

from mixtralkit.ops import library
from tests.ops import elf

# The reason is asked without `available()`, which would log.
pytestmark = [
    pytest.mark.skipif(library.why_not() is not None, reason=f"native kernels: {library.why_not()}"),
    pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files"),
]
ROOT = Path(__file__).parents[2]
# Whose symbols it may use besides those of torch's stable ABI; all of these keep theirs.
SYSTEM = ("libstdc++.so.6", "libgcc_s.so.1", "libc.so.6", "libm.so.6")


@pytest.fixture(scope="module")
def symbols() -> list[elf.Symbol]:
    (path,) = library.PACKAGE.glob("_C.*.so")
    return elf.symbols(path, elf.DYNAMIC)


def test_it_uses_only_stable_symbols(symbols: list[elf.Symbol]) -> None:
    """C++ symbols of torch and c10 change between releases; Python's would bind the file to one."""
    system = [ctypes.CDLL(name) for name in SYSTEM]
    wanted = [symbol.name for symbol in symbols if not symbol.defined and symbol.binding != elf.WEAK]
    assert "torch_library_impl" in wanted
    others = [name for name in wanted if not name.startswith(("aoti_torch_", "torch_"))]
    assert [name for name in others if not any(hasattr(each, name) for each in system)] == []


def test_it_exports_nothing(symbols: list[elf.Symbol]) -> None:
    assert [symbol.name for symbol in symbols if symbol.defined] == []


@pytest.fixture(scope="module")
def variant_symbols() -> list[elf.Symbol]:
    """Those of the objects that are compiled for more than every processor has."""
    objects = [path for variant in ("avx2", "avx512") for path in (ROOT / "build" / "native" / variant).rglob("*.o")]
    if not objects:
        pytest.skip("the objects of the build were not kept")
    return [symbol for path in objects for symbol in elf.symbols(path, elf.ALL)]


def test_variants_define_nothing_that_other_sources_could_get(variant_symbols: list[elf.Symbol]) -> None:
    """Where several sources instantiate an inline function or template, the linker keeps any one of them: the portable
    code would run the one with AVX-512. So the variants' sources may define none, nothing of the C++ library included.
    """
    shared = (elf.WEAK, elf.UNIQUE)
    assert [symbol.name for symbol in variant_symbols if symbol.defined and symbol.binding in shared] == []


def test_variants_run_nothing_when_the_library_is_loaded(variant_symbols: list[elf.Symbol]) -> None:
    """Constructors of global objects would use instructions that nobody has asked the processor for yet."""
    assert [symbol.name for symbol in variant_symbols if symbol.name.startswith("_GLOBAL__sub_I")] == []
