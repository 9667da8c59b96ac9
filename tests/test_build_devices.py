"""The build of what is for GPUs: csrc/build_cuda.py, find_cuda.py, find_nccl.py and resources.py.

The compile itself is a part of `make kernels`, where there is nvcc.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from csrc import find_cuda, find_nccl
from csrc.build_cuda import _processor_flags, refuse_unless_wanted
from csrc.find_cuda import find_toolkit
from csrc.left_out import LeftOut
from csrc.resources import Usage, as_table, read_usage, spilling

# As nvcc 13.0 writes it for -Xptxas=-v; the numbers of the second kernel are made up.
PTXAS = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN10mixtralkit4cuda12_GLOBAL__N_13addIfEEvPT_i' for 'sm_80'
ptxas info    : Function properties for _ZN10mixtralkit4cuda12_GLOBAL__N_13addIfEEvPT_i
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers, 364 bytes cmem[0]
ptxas info    : Compile time = 20.268 ms
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN10mixtralkit4cuda4sortEPi' for 'sm_90a'
ptxas info    : Function properties for _ZN10mixtralkit4cuda4sortEPi
    16 bytes stack frame, 12 bytes spill stores, 20 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 16 bytes cumulative stack size, 4096 bytes smem
"""
NOWHERE = ("CUDA_HOME", "NCCL_HOME")


def test_what_ptxas_says_is_read() -> None:
    """Every kernel and processor, spills and shared memory included; names are as the source has them."""
    add, sort = read_usage(PTXAS)
    assert add == Usage("add<float>", "sm_80", 8, 0, 0, 0)
    assert sort == Usage("sort", "sm_90a", 255, 4096, 16, 32)
    assert spilling([add, sort]) == ["sort"]
    assert spilling([add]) == []


def test_the_table_begins_with_a_summary() -> None:
    lines = as_table(read_usage(PTXAS)).splitlines()
    assert lines[0] == "2 kernels for sm_80, sm_90a: at most 255 registers, spilled by sort"
    assert lines[4] == "| `add<float>` | sm_80 | 8 | 0 | 0 | 0 |"


def test_a_torch_without_cuda_does_not_wait_for_nvcc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless asked for, or where everything is to be compiled."""
    monkeypatch.delenv("MIXTRALKIT_CUDA", raising=False)
    with pytest.raises(LeftOut, match="torch is built without CUDA; MIXTRALKIT_CUDA=1 compiles"):
        refuse_unless_wanted(None, strict=False)
    refuse_unless_wanted("13.0", strict=False)
    refuse_unless_wanted(None, strict=True)
    monkeypatch.setenv("MIXTRALKIT_CUDA", "1")
    refuse_unless_wanted(None, strict=False)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that knows of no toolkit and no package."""
    for name in NOWHERE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(find_cuda, "USUAL_PLACE", str(tmp_path / "usual"))
    monkeypatch.setattr(find_nccl, "USUAL_PLACE", str(tmp_path / "usual"))
    monkeypatch.setattr(find_nccl, "SYSTEM", (str(tmp_path / "system"),))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site-packages")])
    return tmp_path


def header(path: Path) -> str:
    """An empty header at `path`; returns its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return str(path.parent)


def test_without_a_toolkit_it_is_said_what_to_install(bare: Path) -> None:
    with pytest.raises(LeftOut, match="there is no nvcc; install the CUDA toolkit, or name its folder in CUDA_HOME"):
        find_toolkit()


def test_a_toolkit_is_asked_where_its_things_are(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that calls nvcc elsewhere is enough; the real one's words are imitated."""
    nvcc = bare / "toolkit" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text(
        '#!/bin/sh\ncase "$1" in --list-gpu-code) echo sm_80 sm_90;; *)\n'
        "echo '#$ INCLUDES=\"-I/cuda/bin/../include\"  ' >&2\n"
        'echo \'#$ LIBRARIES=  "-L/cuda/lib/stubs" "-L/cuda/lib"\' >&2;; esac\n'
    )
    nvcc.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(bare / "toolkit"))
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    toolkit = find_toolkit()
    assert toolkit.nvcc == str(nvcc)
    assert toolkit.include_dirs == ("/cuda/include",)
    assert toolkit.library_dirs == ("/cuda/lib/stubs", "/cuda/lib")
    assert toolkit.codes == ("sm_80", "sm_90", "sm_90a")


def test_headers_of_nccl_come_from_what_torch_uses(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From NVIDIA's packages before the system's; a folder that the user names is before both."""
    with pytest.raises(LeftOut, match=r"there is no nccl\.h; install nvidia-nccl-cu13"):
        find_nccl.nccl_include_dirs()
    system = header(bare / "system" / "nccl.h")
    with pytest.raises(LeftOut, match=r"there is no cuda_runtime\.h; install the CUDA toolkit"):
        find_nccl.nccl_include_dirs()
    cuda = header(bare / "site-packages" / "nvidia" / "cu13" / "include" / "cuda_runtime.h")
    assert find_nccl.nccl_include_dirs() == [system, cuda]
    packaged = header(bare / "site-packages" / "nvidia" / "nccl" / "include" / "nccl.h")
    assert find_nccl.nccl_include_dirs() == [packaged, cuda]
    named = header(bare / "named" / "include" / "nccl.h")
    monkeypatch.setenv("NCCL_HOME", str(bare / "named"))
    assert find_nccl.nccl_include_dirs() == [named, cuda]


def test_the_build_has_no_more_than_the_sources_ask_for() -> None:
    """Installing needs these files before anything of the package can be imported."""
    code = (
        "import sys; from csrc import build; print([n for n in sys.modules if n.startswith(('torch', 'mixtralkit'))])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_an_nvcc_for_none_of_the_processors_leaves_it_out() -> None:
    """And does not fail as if the sources were wrong."""
    with pytest.raises(LeftOut, match="install a newer CUDA toolkit"):
        _processor_flags(["sm_70", "sm_75"])
