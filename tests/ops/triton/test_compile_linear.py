"""The products with quantized matrices compile for the GPUs they are for, in the shapes of Mixtral's attention."""

import pytest

from tests.ops.triton.compiled import ARCHITECTURES, ptx

pytest.importorskip("triton")

from mixtralkit.ops.triton.linear_kernels import FLOAT32, FP8, INTEGERS, LinearTile, linear_kernel

CASES = [
    *((tile, "int8", "bf16") for tile in INTEGERS),
    *((tile, "int4", "bf16") for tile in INTEGERS),
    *((tile, "fp8", "bf16") for tile in FP8),
    *((FLOAT32[0], kind, "fp32") for kind in ("int8", "int4", "fp8")),
]


@pytest.mark.parametrize(("tile", "kind", "dtype"), CASES)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_queries_keys_and_values(arch: int, tile: LinearTile, kind: str, dtype: str) -> None:
    """fp8 as bits where the processor does not convert it."""
    arguments = {"addresses_ptr": "*i64", "rows": "i32", "first_column": "i32"}
    pointers = dict.fromkeys(("x_ptr", "residual_ptr", "result_ptr"), f"*{dtype}")
    shape: dict[str, object] = {"OUTPUTS_0": 4096, "OUTPUTS_1": 1024, "OUTPUTS_2": 1024, "INPUTS": 4096, "WIDTH": 6144}
    fp8 = "tl.uint8" if arch == 80 else "tl.float8e4nv"
    shape |= {"DENSE": fp8 if kind == "fp8" else None, "BITS": 4 if kind == "int4" else 8}
    sizes = {"BM": tile.rows, "BN": tile.outputs, "BK": tile.inputs}
    ptx(linear_kernel, {**arguments, **pointers}, {**shape, **sizes}, arch, tile.warps, tile.stages)
