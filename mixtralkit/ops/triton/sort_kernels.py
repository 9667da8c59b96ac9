"""Sorting rows by expert on a GPU: counting sort over tiles of tokens, stable, without atomics.

With one tile, up to some thousand rows, one program does everything. With more, a first kernel counts the rows of each
expert in each tile, and in a second one every tile finds from all these counts where its rows begin.

A token may have an expert more than once. BT, BE and BK below are the tokens of a tile, and the experts and K rounded
up to powers of two.
"""

import torch
import triton
import triton.language as tl

# To be confirmed on hardware: not measured on a GPU yet.
_TILE_ELEMENTS = 4096  # of a tile's [BT, BE]
_WARP_ELEMENTS = 512  # few warps, as they wait for one another in every sum
_MOST_WARPS = 16
_MOST_TOKENS = 1024
_LEAST_TOKENS = 16
_COUNTS = 64  # tiles whose counts are read together
_NO_EXPERT = tl.constexpr(-1)  # in the place of an expert
_NO_ID = tl.constexpr(-2)  # in the place of a token's


def expert_sort(expert_ids_TK: torch.Tensor, order_E: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As ops/expert_sort has it, without waiting for the device."""
    ids_TK, order_E = expert_ids_TK.contiguous(), order_E.contiguous()
    (tokens, top_k), experts = ids_TK.shape, order_E.numel()
    pairs_N, counts_E = new_order(ids_TK, experts)
    if not ids_TK.numel():
        return pairs_N, counts_E.zero_()
    block = tile_tokens(tokens, experts)
    tiles = triton.cdiv(tokens, block)
    sizes = (experts, top_k, block, *rounded(experts, top_k))
    if tiles == 1:
        count_kernel[(1,)](ids_TK, order_E, counts_E, pairs_N, tokens, *sizes, num_warps=tile_warps(block, experts))
        return pairs_N, counts_E
    tile_counts = new_tile_counts(tiles, counts_E)
    count_kernel[(tiles,)](ids_TK, order_E, tile_counts, None, tokens, *sizes, num_warps=tile_warps(block, experts))
    scatter(ids_TK, order_E, tile_counts, pairs_N, counts_E, block)
    return pairs_N, counts_E


def new_order(ids_TK: torch.Tensor, experts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`pairs_N` and `counts_E`, int64 and undefined."""
    return ids_TK.new_empty(ids_TK.numel(), dtype=torch.int64), ids_TK.new_empty(experts, dtype=torch.int64)


def new_tile_counts(tiles: int, counts_E: torch.Tensor) -> torch.Tensor:
    """Rows of each expert in each tile, int32 `[tiles, E]`, undefined."""
    return counts_E.new_empty(tiles, counts_E.numel(), dtype=torch.int32)


def tile_tokens(tokens: int, experts: int) -> int:
    """BT: as many tokens as there are, a tile allows, and some power of two is."""
    allowed: int = min(_MOST_TOKENS, _TILE_ELEMENTS // triton.next_power_of_2(experts))
    wanted: int = triton.next_power_of_2(tokens)
    return max(_LEAST_TOKENS, min(wanted, allowed))


def tile_warps(block: int, experts: int) -> int:
    """The warps for tiles of `block` tokens."""
    warps: int = block * triton.next_power_of_2(experts) // _WARP_ELEMENTS
    return max(1, min(warps, _MOST_WARPS))


def rounded(experts: int, top_k: int) -> tuple[int, int]:
    """BE and BK, at least 2."""
    return max(2, triton.next_power_of_2(experts)), max(2, triton.next_power_of_2(top_k))


def scatter(
    ids_TK: torch.Tensor,
    order_E: torch.Tensor | None,
    tile_counts: torch.Tensor,
    pairs_N: torch.Tensor,
    counts_E: torch.Tensor,
    block: int,
) -> None:
    """Fill `pairs_N` and `counts_E` from the counts of tiles of `block` tokens. Without an order it is by id."""
    (tokens, top_k), (tiles, experts) = ids_TK.shape, tile_counts.shape
    scatter_kernel[(tiles,)](
        *(ids_TK, order_E, tile_counts, pairs_N, counts_E, tokens, tiles),
        *(experts, top_k, block, *rounded(experts, top_k), _COUNTS),
        num_warps=tile_warps(block, experts),
    )


@triton.jit(do_not_specialize=["tokens"])
def count_kernel(
    ids_ptr,
    order_ptr,
    counts_ptr,
    pairs_ptr,
    tokens,
    EXPERTS: tl.constexpr,
    TOP_K: tl.constexpr,
    BT: tl.constexpr,
    BE: tl.constexpr,
    BK: tl.constexpr,
):
    """Row `program_id(0)` of `counts_ptr`, `[tiles, E]`. With `pairs_ptr`, for a single tile, also the sorting."""
    tile = tl.program_id(0)
    ids = load_ids(ids_ptr, tile, tokens, TOP_K, BT, BK)
    columns = load_order(order_ptr, EXPERTS, BE)
    counts_E = tl.sum(rows_of_tokens(ids, columns, TOP_K, BT, BE, BK), axis=0)
    place = tl.arange(0, BE)
    tl.store(counts_ptr + tile * EXPERTS + place, counts_E, mask=place < EXPERTS)
    if pairs_ptr is not None:
        place_pairs(pairs_ptr, ids, columns, tl.cumsum(counts_E, 0) - counts_E, tile, tokens, TOP_K, BT, BE, BK)


@triton.jit(do_not_specialize=["tokens", "tiles"])
def scatter_kernel(
    ids_ptr,
    order_ptr,
    tile_counts_ptr,
    pairs_ptr,
    counts_ptr,
    tokens,
    tiles,
    EXPERTS: tl.constexpr,
    TOP_K: tl.constexpr,
    BT: tl.constexpr,
    BE: tl.constexpr,
    BK: tl.constexpr,
    BC: tl.constexpr,
):
    """The pairs of tile `program_id(0)`; the first program also writes the counts of all."""
    tile = tl.program_id(0)
    place = tl.arange(0, BE)
    all_E = tl.zeros([BE], dtype=tl.int32)
    earlier_E = tl.zeros([BE], dtype=tl.int32)
    for start in range(0, tiles, BC):
        row = start + tl.arange(0, BC)[:, None]
        inside = (row < tiles) & (place[None, :] < EXPERTS)
        found = tl.load(tile_counts_ptr + row * EXPERTS + place[None, :], mask=inside, other=0)
        all_E += tl.sum(found, axis=0)
        earlier_E += tl.sum(tl.where(row < tile, found, 0), axis=0)
    ids = load_ids(ids_ptr, tile, tokens, TOP_K, BT, BK)
    first_E = tl.cumsum(all_E, 0) - all_E + earlier_E
    place_pairs(pairs_ptr, ids, load_order(order_ptr, EXPERTS, BE), first_E, tile, tokens, TOP_K, BT, BE, BK)
    tl.store(counts_ptr + place, all_E, mask=(place < EXPERTS) & (tile == 0))


@triton.jit
def load_order(order_ptr, EXPERTS: tl.constexpr, BE: tl.constexpr):
    """The expert of each column, `[BE]`."""
    place = tl.arange(0, BE)
    columns = place.to(tl.int64)
    if order_ptr is not None:
        columns = tl.load(order_ptr + place, mask=place < EXPERTS, other=_NO_EXPERT)
    return columns


@triton.jit
def load_ids(ids_ptr, tile, tokens, TOP_K: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr):
    """The ids of a tile's tokens, `[BT, BK]`."""
    token = tile * BT + tl.arange(0, BT)[:, None]
    k = tl.arange(0, BK)[None, :]
    return tl.load(ids_ptr + token.to(tl.int64) * TOP_K + k, mask=(token < tokens) & (k < TOP_K), other=_NO_ID)


@triton.jit
def expert_is(ids, columns, k, BK: tl.constexpr):
    """Whether the `k`-th id of a token is that of a column, `[BT, BE]`."""
    ids_T = tl.sum(tl.where(tl.arange(0, BK)[None, :] == k, ids, 0), axis=1)
    return ids_T[:, None] == columns[None, :]


@triton.jit
def rows_of_tokens(ids, columns, TOP_K: tl.constexpr, BT: tl.constexpr, BE: tl.constexpr, BK: tl.constexpr):
    """How many rows each token has of each column, int32 `[BT, BE]`."""
    rows = tl.zeros([BT, BE], dtype=tl.int32)
    for k in tl.static_range(TOP_K):
        rows += expert_is(ids, columns, k, BK).to(tl.int32)
    return rows


@triton.jit
def place_pairs(
    pairs_ptr,
    ids,
    columns,
    first_E,
    tile,
    tokens,
    TOP_K: tl.constexpr,
    BT: tl.constexpr,
    BE: tl.constexpr,
    BK: tl.constexpr,
):
    """Write the tile's pairs to their places, of which `first_E` has each column's first one for this tile."""
    token = tile * BT + tl.arange(0, BT)
    rows = rows_of_tokens(ids, columns, TOP_K, BT, BE, BK)
    next_TE = tl.cumsum(rows, 0) - rows + first_E[None, :]
    for k in tl.static_range(TOP_K):
        hit = expert_is(ids, columns, k, BK)
        place_T = tl.sum(tl.where(hit, next_TE, 0), axis=1)
        tl.store(pairs_ptr + place_T, token.to(tl.int64) * TOP_K + k, mask=token < tokens)
        next_TE += hit.to(tl.int32)
