"""The experts' kernels compile for the GPUs they are for, with the tiles they are launched with."""

import pytest
import torch

from tests.ops.triton.compiled import ARCHITECTURES, ptx

pytest.importorskip("triton")

from mixtralkit.ops.quantized_weight import QuantKind
from mixtralkit.ops.triton.combine_kernels import sum_kernel
from mixtralkit.ops.triton.expert_kernels import down_kernel, up_kernel
from mixtralkit.ops.triton.expert_tiles import expert_tiles, most_tiles
from mixtralkit.ops.triton.gated_kernels import COLUMNS, gated_kernel
from mixtralkit.ops.triton.product_tiles import Tile, product_tile

ARGUMENTS = {"pairs_ptr": "*i64", "counts_ptr": "*i64", "addresses_ptr": "*i64", "hidden_ptr": "*bf16"}
MIXTRAL = {"EXPERTS": 8, "EXPERTS_UP": 16, "D": 4096, "F": 14336}
ODD = {"EXPERTS": 1, "EXPERTS_UP": 16, "D": 1088, "F": 2112}
BFLOAT16 = {"DENSE": "tl.bfloat16", "BITS": 0}
INT8, INT4 = {"DENSE": None, "BITS": 8}, {"DENSE": None, "BITS": 4}
FP8_NUMBERS, FP8_BITS = {"DENSE": "tl.float8e4nv", "BITS": 8}, {"DENSE": "tl.uint8", "BITS": 8}
ROWS = (16, 32, 64, 128)
# The tensor cores' instructions differ: wgmma from 64 rows on in sm_90, tcgen05 in sm_100, otherwise mma.
CASES = [
    (90, 16, MIXTRAL, BFLOAT16, "mma.sync"),
    (80, 128, MIXTRAL, BFLOAT16, "mma.sync"),
    (90, 64, ODD, BFLOAT16, "wgmma"),
    (90, 128, MIXTRAL, BFLOAT16, "wgmma"),
    (100, 128, MIXTRAL, BFLOAT16, "tcgen05.mma"),
    (90, 16, MIXTRAL, INT8, "mma.sync"),
    (100, 64, MIXTRAL, INT8, "tcgen05.mma"),
    (90, 16, MIXTRAL, INT4, "mma.sync"),
    (80, 128, ODD, INT4, "mma.sync"),
    *((80, rows, MIXTRAL, FP8_BITS, "mma.sync") for rows in ROWS),
    *((90, rows, MIXTRAL, FP8_NUMBERS, "mma.sync" if rows < 64 else "wgmma") for rows in ROWS),
    *((100, rows, MIXTRAL, FP8_NUMBERS, "mma.sync" if rows < 64 else "tcgen05.mma") for rows in ROWS),
    (90, 16, ODD, FP8_NUMBERS, "cvt.rn.f16x2.e4m3x2"),
]


@pytest.mark.parametrize(("arch", "rows", "shape", "kind", "instruction"), CASES)
def test_the_products(
    arch: int, rows: int, shape: dict[str, object], kind: dict[str, object], instruction: str
) -> None:
    """With loads of 16 bytes that the program does not wait for: what the addresses' alignment is declared for."""
    up_tile, down_tile = (product_tile(arch, name, rows, torch.bfloat16, _quant_kind(kind)) for name in ("up", "down"))
    up = ptx(
        up_kernel,
        {**ARGUMENTS, "x_ptr": "*bf16"},
        {**shape, **kind, **_sizes(up_tile), "TOP_K": 2},
        arch,
        up_tile.warps,
        up_tile.stages,
    )
    down = ptx(
        down_kernel,
        {**ARGUMENTS, "result_ptr": "*bf16"},
        {**shape, **kind, **_sizes(down_tile)},
        arch,
        down_tile.warps,
        down_tile.stages,
    )
    for assembly in (up, down):
        assert instruction in assembly
        assert "cp.async.cg.shared.global" in assembly


def test_float32_and_sorted_rows() -> None:
    tile = product_tile(90, "down", 64, torch.float32, None)
    arguments = {**ARGUMENTS, "hidden_ptr": "*fp32", "result_ptr": "*fp32"}
    del arguments["pairs_ptr"]
    constants = {**MIXTRAL, "DENSE": "tl.float32", "BITS": 0, **_sizes(tile), "pairs_ptr": None}
    assert "fma.rn.f32" in ptx(down_kernel, arguments, constants, 90, tile.warps, tile.stages)


@pytest.mark.parametrize("residual", ["*bf16", None])
def test_the_sum_of_rows(residual: str | None) -> None:
    arguments = {"rows_ptr": "*bf16", "weights_ptr": "*fp32", "result_ptr": "*bf16"}
    constants: dict[str, object] = {"TOP_K": 2, "D": 4096, "COLUMNS": 1024}
    given = arguments if residual is None else {**arguments, "residual_ptr": residual}
    ptx(sum_kernel, given, constants if residual else {**constants, "residual_ptr": None}, 90)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_what_is_between_two_grouped_products(arch: int) -> None:
    assembly = ptx(gated_kernel, {"both_ptr": "*bf16", "hidden_ptr": "*bf16"}, {"F": 14336, "COLUMNS": COLUMNS}, arch)
    assert "ld.global.v4" in assembly


def test_a_tile_has_room_for_twice_an_even_load() -> None:
    def rows(tokens: int, experts: int = 8) -> int:
        tiles = expert_tiles(tokens * 2, experts, torch.bfloat16, None, arch=90)
        return tiles.up.rows

    assert [rows(tokens) for tokens in (1, 32, 33, 64, 65, 128, 129, 4096)] == [16, 16, 32, 32, 64, 64, 128, 128]


@pytest.mark.parametrize(("rows", "experts", "found"), [(1, 8, 1), (8, 8, 8), (9, 8, 8), (24, 8, 9), (160, 8, 17)])
def test_the_worst_spread(rows: int, experts: int, found: int) -> None:
    """All experts but one have a row, that one the others: 8 experts of 160 rows, 7 x 1 + 153 = 7 + 10 tiles of 16."""
    assert most_tiles(rows, experts, 16) == found


def _quant_kind(kind: dict[str, object]) -> QuantKind | None:
    if kind["BITS"] == 0:
        return None
    return QuantKind.FP8 if kind["DENSE"] else QuantKind(f"int{kind['BITS']}")


def _sizes(tile: Tile) -> dict[str, object]:
    return {"BM": tile.rows, "BN": tile.outputs, "BK": tile.inputs}
