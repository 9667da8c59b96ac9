"""The kernels of gate, sort and norm compile for the GPUs they are for, in the sizes of Mixtral and in odd ones."""

from typing import Any

import pytest

from tests.ops.triton.compiled import ARCHITECTURES, ptx

pytest.importorskip("triton")

from mixtralkit.ops.triton.gate_kernels import gate_kernel
from mixtralkit.ops.triton.norm_kernels import rms_norm_kernel
from mixtralkit.ops.triton.sort_kernels import count_kernel, scatter_kernel

SIZES = [
    {"experts": 8, "top_k": 2, "BT": 16, "BE": 8, "BK": 2},
    {"experts": 8, "top_k": 2, "BT": 1024, "BE": 8, "BK": 2},
    {"experts": 1, "top_k": 1, "BT": 16, "BE": 2, "BK": 2},
    {"experts": 60, "top_k": 5, "BT": 128, "BE": 64, "BK": 8},
]
IDS = {"ids_TK": "*i64", "pairs_N": "*i64", "tokens": "i32"}


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("sizes", SIZES)
def test_the_gate(sizes: dict[str, object], arch: int) -> None:
    arguments = {**IDS, "logits_TE": "*bf16", "weights_TK": "*fp32", "counts": "*i64"}
    ptx(gate_kernel, arguments, sizes, arch, 8)
    _without(gate_kernel, arguments, sizes, arch, "counts", "pairs_N")


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("sizes", SIZES)
def test_the_sort(sizes: dict[str, object], arch: int) -> None:
    arguments = {**IDS, "order_E": "*i64", "counts": "*i32"}
    ptx(count_kernel, arguments, sizes, arch, 8)
    _without(count_kernel, arguments, sizes, arch, "pairs_N")
    arguments = {**IDS, "order_E": "*i64", "tile_counts": "*i32", "counts_E": "*i64", "tiles": "i32"}
    ptx(scatter_kernel, arguments, {**sizes, "BC": 64}, arch, 8)
    _without(scatter_kernel, arguments, {**sizes, "BC": 64}, arch, "order_E")


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("dtype", "weight_dtype"), [("bf16", "bf16"), ("fp16", "fp32"), ("fp32", "bf16")])
def test_the_norm(dtype: str, weight_dtype: str, arch: int) -> None:
    arguments = {"x_TD": f"*{dtype}", "weight_D": f"*{weight_dtype}", "out_TD": f"*{dtype}", "eps": "fp32"}
    ptx(rms_norm_kernel, arguments, {"dim": 4096, "BLOCK": 4096}, arch, 8)


def _without(kernel: Any, arguments: dict[str, str], sizes: dict[str, object], arch: int, *absent: str) -> None:
    given = {name: kind for name, kind in arguments.items() if name not in absent}
    ptx(kernel, given, {**sizes, **dict.fromkeys(absent)}, arch, 8)
