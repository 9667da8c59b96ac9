"""The experts' kernels compile for the GPUs they are for, with the tiles they are launched with."""

import pytest
import torch

from tests.ops.triton.compiled import ARCHITECTURES, ptx

pytest.importorskip("triton")

from mixtralkit.ops.triton.combine_kernels import sum_kernel
from mixtralkit.ops.triton.expert_kernels import down_kernel, up_kernel
from mixtralkit.ops.triton.expert_tiles import (
    DENSE,
    FLOAT32,
    FP8,
    INTEGERS,
    WIDE,
    Tile,
    Tiles,
    expert_tiles,
    most_tiles,
)
from mixtralkit.ops.triton.gated_kernels import COLUMNS, gated_kernel

ARGUMENTS = {"pairs_ptr": "*i64", "counts_ptr": "*i64", "addresses_ptr": "*i64", "hidden_ptr": "*bf16"}
MIXTRAL = {"EXPERTS": 8, "EXPERTS_UP": 16, "D": 4096, "F": 14336}
ODD = {"EXPERTS": 1, "EXPERTS_UP": 16, "D": 1088, "F": 2112}
BFLOAT16 = {"DENSE": "tl.bfloat16", "BITS": 0}
INT8, INT4 = {"DENSE": None, "BITS": 8}, {"DENSE": None, "BITS": 4}
FP8_NUMBERS, FP8_BITS = {"DENSE": "tl.float8e4nv", "BITS": 8}, {"DENSE": "tl.uint8", "BITS": 8}
# The tensor cores' instructions differ: wgmma from 64 rows on in sm_90, tcgen05 in sm_100, otherwise mma.
CASES = [
    (90, DENSE[16], MIXTRAL, BFLOAT16, "mma.sync"),
    (80, DENSE[128], MIXTRAL, BFLOAT16, "mma.sync"),
    (90, DENSE[64], ODD, BFLOAT16, "wgmma"),
    (90, WIDE[128], MIXTRAL, BFLOAT16, "wgmma"),
    (100, WIDE[128], MIXTRAL, BFLOAT16, "tcgen05.mma"),
    (90, INTEGERS[16], MIXTRAL, INT8, "mma.sync"),
    (100, INTEGERS[64], MIXTRAL, INT8, "tcgen05.mma"),
    (90, INTEGERS[16], MIXTRAL, INT4, "mma.sync"),
    (80, INTEGERS[128], ODD, INT4, "mma.sync"),
    *((80, tiles, MIXTRAL, FP8_BITS, "mma.sync") for tiles in FP8.values()),
    *((90, FP8[rows], MIXTRAL, FP8_NUMBERS, "mma.sync" if rows < 64 else "wgmma") for rows in FP8),
    *((100, FP8[rows], MIXTRAL, FP8_NUMBERS, "mma.sync" if rows < 64 else "tcgen05.mma") for rows in FP8),
    (90, FP8[16], ODD, FP8_NUMBERS, "cvt.rn.f16x2.e4m3x2"),
]


@pytest.mark.parametrize(("arch", "tiles", "shape", "kind", "instruction"), CASES)
def test_the_products(
    arch: int, tiles: Tiles, shape: dict[str, object], kind: dict[str, object], instruction: str
) -> None:
    """With loads of 16 bytes that the program does not wait for: what the addresses' alignment is declared for."""
    up = ptx(
        up_kernel,
        {**ARGUMENTS, "x_ptr": "*bf16"},
        {**shape, **kind, **_sizes(tiles.up), "TOP_K": 2},
        arch,
        tiles.up.warps,
        tiles.up.stages,
    )
    down = ptx(
        down_kernel,
        {**ARGUMENTS, "result_ptr": "*bf16"},
        {**shape, **kind, **_sizes(tiles.down)},
        arch,
        tiles.down.warps,
        tiles.down.stages,
    )
    for assembly in (up, down):
        assert instruction in assembly
        assert "cp.async.cg.shared.global" in assembly


def test_float32_and_sorted_rows() -> None:
    tile = FLOAT32[64].down
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
        tiles = expert_tiles(tokens * 2, experts, torch.bfloat16, None, wide=True)
        assert tiles.up.rows == tiles.down.rows
        return tiles.up.rows

    assert [rows(tokens) for tokens in (1, 32, 33, 64, 65, 128, 129, 4096)] == [16, 16, 32, 32, 64, 64, 128, 128]


@pytest.mark.parametrize("table", [DENSE, WIDE, INTEGERS, FP8, FLOAT32])
def test_the_tables(table: dict[int, Tiles]) -> None:
    """Blocks of 16 outputs and groups of 64 inputs fit into the tiles, also where rows are float32."""
    for rows, tiles in table.items():
        for tile in tiles:
            assert (tile.rows, tile.outputs % 16, tile.inputs % 64) == (rows, 0, 0)


@pytest.mark.parametrize(("rows", "experts", "found"), [(1, 8, 1), (8, 8, 8), (9, 8, 8), (24, 8, 9), (160, 8, 17)])
def test_the_worst_spread(rows: int, experts: int, found: int) -> None:
    """All experts but one have a row, that one the others: 8 experts of 160 rows, 7 x 1 + 153 = 7 + 10 tiles of 16."""
    assert most_tiles(rows, experts, 16) == found


def _sizes(tile: Tile) -> dict[str, object]:
    return {"BM": tile.rows, "BN": tile.outputs, "BK": tile.inputs}
