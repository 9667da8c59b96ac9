"""The products with quantized matrices compile for the GPUs they are for, in the shapes of Mixtral's attention."""

import pytest

from tests.ops.triton.compiled import ARCHITECTURES, ptx

pytest.importorskip("triton")

import torch

from mixtralkit.ops.quantized_weight import QuantKind
from mixtralkit.ops.triton.linear_kernels import linear_kernel
from mixtralkit.ops.triton.product_tiles import product_tile

CASES = [
    *((rows, kind, "bf16") for kind in ("int8", "int4", "fp8") for rows in (16, 64, 128)),
    *((16, kind, "fp32") for kind in ("int8", "int4", "fp8")),
]


@pytest.mark.parametrize(("rows", "kind", "dtype"), CASES)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_queries_keys_and_values(arch: int, rows: int, kind: str, dtype: str) -> None:
    """fp8 as bits where the processor does not convert it."""
    tile = product_tile(arch, "linear", rows, torch.float32 if dtype == "fp32" else torch.bfloat16, QuantKind(kind))
    arguments = {"addresses_ptr": "*i64", "rows": "i32", "first_column": "i32"}
    pointers = dict.fromkeys(("x_ptr", "residual_ptr", "result_ptr"), f"*{dtype}")
    shape: dict[str, object] = {"OUTPUTS_0": 4096, "OUTPUTS_1": 1024, "OUTPUTS_2": 1024, "INPUTS": 4096, "WIDTH": 6144}
    fp8 = "tl.uint8" if arch == 80 else "tl.float8e4nv"
    shape |= {"DENSE": fp8 if kind == "fp8" else None, "BITS": 4 if kind == "int4" else 8}
    sizes = {"BM": tile.rows, "BN": tile.outputs, "BK": tile.inputs}
    ptx(linear_kernel, {**arguments, **pointers}, {**shape, **sizes}, arch, tile.warps, tile.stages)
