"""The kernels of attention compile for the GPUs they are for, in Mixtral's sizes and in odd ones."""

import pytest

from tests.ops.triton.compiled import ARCHITECTURES, ptx

pytest.importorskip("triton")

import torch

from mixtralkit.ops.triton.attention_tiles import AttentionTile, prompt_tile, split_positions, token_tile
from mixtralkit.ops.triton.prompt_kernels import prompt_kernel
from mixtralkit.ops.triton.rotary_kernels import rotate_and_write_kernel
from mixtralkit.ops.triton.token_kernels import join_splits_kernel, token_kernel

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
MIXTRAL = {"H": 32, "G": 8, "b": 16, "d": 128}
ODD = {"H": 6, "G": 2, "b": 8, "d": 24}
HALVES = [("bf16", arch, 0) for arch in ARCHITECTURES]


def constants(tile: AttentionTile, sizes: dict[str, int], window: int) -> dict[str, object]:
    """Of a kernel that has such tiles."""
    tiles = {"WIDTH": 1 << (sizes["d"] - 1).bit_length(), "ROWS": tile.rows, "STEP": tile.step}
    return {**sizes, **tiles, "SCALE": 0.1275, "WINDOW": window}


def pointers(dtype: str, *names: str) -> dict[str, str]:
    """Of what has that dtype, and of the requests' numbers."""
    return {"requests_ptr": "*i32", "stride": "i32", **dict.fromkeys(names, f"*{dtype}")}


@pytest.mark.parametrize(("dtype", "arch", "window"), [*HALVES, ("fp32", 80, 0), ("fp16", 90, 4096)])
def test_prompts_and_tokens(dtype: str, arch: int, window: int) -> None:
    """Splits, which have no dtype, are joined in one of them."""
    shared = pointers(dtype, "q_ptr", "keys_ptr", "values_ptr")
    tile, split = prompt_tile(4, DTYPES[dtype], arch), split_positions(arch)
    ptx(
        prompt_kernel,
        {**shared, "out_ptr": f"*{dtype}"},
        constants(tile, MIXTRAL, window),
        arch,
        tile.warps,
        tile.stages,
    )
    sums = {"sums_ptr": "*fp32", "totals_ptr": "*fp32"}
    tile = token_tile(4, DTYPES[dtype], arch)
    ptx(
        token_kernel,
        {**shared, **sums},
        {**constants(tile, MIXTRAL, window), "SPLIT": split},
        arch,
        tile.warps,
        tile.stages,
    )
    joined = {"H": 32, "d": 128, "WIDTH": 128, "STEP": tile.step, "SPLIT": split, "WINDOW": window}
    ptx(join_splits_kernel, {**pointers(dtype, "out_ptr"), **sums, "splits": "i32"}, joined, arch)


def test_in_odd_sizes() -> None:
    shared, tile = pointers("bf16", "q_ptr", "keys_ptr", "values_ptr"), prompt_tile(3, torch.bfloat16, 80)
    ptx(prompt_kernel, {**shared, "out_ptr": "*bf16"}, constants(tile, ODD, 100), 80, tile.warps, tile.stages)


@pytest.mark.parametrize(("dtype", "arch"), [("bf16", 100), ("fp16", 90), ("fp32", 80)])
def test_rotation(dtype: str, arch: int) -> None:
    arguments = {
        **pointers(dtype, "qkv_ptr", "q_ptr", "keys_ptr", "values_ptr"),
        "cos_ptr": "*fp32",
        "sin_ptr": "*fp32",
        "requests_of_rows_ptr": "*i32",
    }
    for sizes, parts, width in ((MIXTRAL, 8, 128), (ODD, 8, 32)):
        ptx(rotate_and_write_kernel, arguments, {**sizes, "PARTS": parts, "WIDTH": width}, arch, 2)
