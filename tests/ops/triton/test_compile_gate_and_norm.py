"""The kernels of gate, sort and norm compile for the GPUs they are for, in the sizes of Mixtral and in odd ones."""

from typing import Any

import pytest

from tests.ops.triton.compiled import ARCHITECTURES, ptx

pytest.importorskip("triton")

from mixtralkit.ops.triton.gate_kernels import gate_kernel
from mixtralkit.ops.triton.norm_kernels import rms_norm_kernel
from mixtralkit.ops.triton.sort_kernels import count_kernel, scatter_kernel

IDS = {"ids_ptr": "*i64", "pairs_ptr": "*i64", "counts_ptr": "*i64", "tokens": "i32"}
GATE = {**IDS, "logits_ptr": "*bf16", "weights_ptr": "*fp32"}
COUNT = {**IDS, "order_ptr": "*i64"}
SCATTER = {**COUNT, "tile_counts_ptr": "*i32", "tiles": "i32"}
MIXTRAL = {"EXPERTS": 8, "TOP_K": 2, "BT": 512, "BE": 8, "BK": 2}
SINGLE = {"EXPERTS": 1, "TOP_K": 1, "BT": 16, "BE": 2, "BK": 2}
MANY = {"EXPERTS": 60, "TOP_K": 5, "BT": 64, "BE": 64, "BK": 8}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_in_mixtrals_sizes(arch: int) -> None:
    ptx(gate_kernel, GATE, MIXTRAL, arch, 8)
    ptx(scatter_kernel, *_without(SCATTER, {**MIXTRAL, "BC": 64}, "order_ptr"), arch, 8)
    ptx(count_kernel, COUNT, MIXTRAL, arch, 8)


@pytest.mark.parametrize(("sizes", "warps"), [(SINGLE, 1), (MANY, 8)])
def test_in_odd_sizes(sizes: dict[str, object], warps: int) -> None:
    ptx(gate_kernel, GATE, sizes, 80, warps)
    ptx(gate_kernel, *_without(GATE, sizes, "counts_ptr", "pairs_ptr"), 80, warps)
    ptx(count_kernel, *_without(COUNT, sizes, "pairs_ptr"), 80, warps)
    ptx(scatter_kernel, SCATTER, {**sizes, "BC": 64}, 80, warps)


@pytest.mark.parametrize(
    ("dtype", "weight_dtype", "arch"), [("bf16", "bf16", 100), ("bf16", "bf16", 90), ("fp16", "fp32", 80)]
)
def test_the_norm(dtype: str, weight_dtype: str, arch: int) -> None:
    arguments = {"x_ptr": f"*{dtype}", "weight_ptr": f"*{weight_dtype}", "out_ptr": f"*{dtype}", "eps": "fp32"}
    ptx(rms_norm_kernel, arguments, {"DIM": 4096, "BLOCK": 4096}, arch, 8)


def _without(arguments: dict[str, str], sizes: dict[str, Any], *absent: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Arguments and sizes of a call in which some pointers are None."""
    given = {name: kind for name, kind in arguments.items() if name not in absent}
    return given, {**sizes, **dict.fromkeys(absent)}
