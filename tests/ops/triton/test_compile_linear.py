"""The products with quantized matrices compile for the GPUs they are for, in the shapes of Mixtral's attention."""

import pytest

from tests.ops.triton.compiled import ARCHITECTURES, ptx

pytest.importorskip("triton")

from mixtralkit.ops.triton.linear_kernels import FLOAT32, HALF, LinearTile, linear_kernel

CASES = [(tile, bits, "fp32" if tile in FLOAT32 else "bf16") for tile in (*HALF, *FLOAT32[:1]) for bits in (8, 4)]


@pytest.mark.parametrize(("tile", "bits", "dtype"), CASES)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_queries_keys_and_values(arch: int, tile: LinearTile, bits: int, dtype: str) -> None:
    arguments = {"addresses_ptr": "*i64", "rows": "i32", "first_column": "i32"}
    pointers = dict.fromkeys(("x_ptr", "residual_ptr", "result_ptr"), f"*{dtype}")
    shape = {"OUTPUTS_0": 4096, "OUTPUTS_1": 1024, "OUTPUTS_2": 1024, "INPUTS": 4096, "WIDTH": 6144, "BITS": bits}
    sizes = {"BM": tile.rows, "BN": tile.outputs, "BK": tile.inputs}
    ptx(linear_kernel, {**arguments, **pointers}, {**shape, **sizes}, arch, tile.warps, tile.stages)
