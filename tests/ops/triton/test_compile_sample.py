"""The kernel that samples compiles for the GPUs it is for, in the sizes of Mixtral and in odd ones, and fits them."""

import pytest

from tests.ops.triton.compiled import ARCHITECTURES, ptx

pytest.importorskip("triton")

from mixtralkit.ops.triton.sample_kernels import block_and_warps, sample_kernel

POINTERS = {"logits_ptr": "*fp32", "settings_ptr": "*fp64", "ids_ptr": "*i32", "tokens_ptr": "*i64"}


def _compiled(vocab: int, arch: int) -> str:
    block, warps = block_and_warps(vocab, arch)
    return ptx(sample_kernel, POINTERS, {"V": vocab, "BLOCK": block}, arch, warps)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_vocabulary(arch: int) -> None:
    """With exponentials in float64, not by the approximation that float32 has."""
    assembly = _compiled(32000, arch)
    assert "ex2.approx" not in assembly
    assert "fma.rn.f64" in assembly


@pytest.mark.parametrize("vocab", [1, 1000])
def test_odd_sizes(vocab: int) -> None:
    _compiled(vocab, 80)
