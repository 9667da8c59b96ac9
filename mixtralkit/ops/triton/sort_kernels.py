"""Sorting rows by expert on a GPU: counting sort over tiles of tokens, stable, without atomics.

With one tile, up to some thousand rows, one program does everything. With more, a first kernel counts the rows of each
expert in each tile, and in a second one every tile finds from all these counts where its rows begin.

A token may have an expert more than once. BT, BE and BK below are the tokens of a tile, and the experts and K rounded
up to powers of two.
"""

import torch
import triton
import triton.language as tl

_TILE_ELEMENTS = 8192  # of a tile's [BT, BE], 32 a lane; not measured on a GPU yet
_MOST_TOKENS = 1024
_LEAST_TOKENS = 16
_WARPS = 8
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
        count_kernel[(1,)](ids_TK, order_E, counts_E, pairs_N, tokens, *sizes, num_warps=_WARPS)
        return pairs_N, counts_E
    tile_counts = new_tile_counts(tiles, counts_E)
    count_kernel[(tiles,)](ids_TK, order_E, tile_counts, None, tokens, *sizes, num_warps=_WARPS)
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
    allowed = min(_MOST_TOKENS, _TILE_ELEMENTS // triton.next_power_of_2(experts))
    wanted: int = triton.next_power_of_2(tokens)
    return max(_LEAST_TOKENS, min(wanted, allowed))


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
        num_warps=_WARPS,
    )


@triton.jit
def count_kernel(
    ids_TK,
    order_E,
    counts,
    pairs_N,
    tokens,
    experts: tl.constexpr,
    top_k: tl.constexpr,
    BT: tl.constexpr,
    BE: tl.constexpr,
    BK: tl.constexpr,
):
    """Row `program_id(0)` of `counts`, `[tiles, E]`. With `pairs_N`, which needs a single tile, also the sorting."""
    tile = tl.program_id(0)
    ids = load_ids(ids_TK, tile, tokens, top_k, BT, BK)
    columns = load_order(order_E, experts, BE)
    counts_E = tl.sum(rows_of_tokens(ids, columns, top_k, BT, BE, BK), axis=0)
    place = tl.arange(0, BE)
    tl.store(counts + tile * experts + place, counts_E, mask=place < experts)
    if pairs_N is not None:
        place_pairs(pairs_N, ids, columns, tl.cumsum(counts_E, 0) - counts_E, tile, tokens, top_k, BT, BE, BK)


@triton.jit
def scatter_kernel(
    ids_TK,
    order_E,
    tile_counts,
    pairs_N,
    counts_E,
    tokens,
    tiles,
    experts: tl.constexpr,
    top_k: tl.constexpr,
    BT: tl.constexpr,
    BE: tl.constexpr,
    BK: tl.constexpr,
    BC: tl.constexpr,
):
    """The pairs of tile `program_id(0)`; the first program also writes `counts_E`."""
    tile = tl.program_id(0)
    place = tl.arange(0, BE)
    all_E = tl.zeros([BE], dtype=tl.int32)
    earlier_E = tl.zeros([BE], dtype=tl.int32)
    for start in range(0, tiles, BC):
        row = start + tl.arange(0, BC)[:, None]
        inside = (row < tiles) & (place[None, :] < experts)
        found = tl.load(tile_counts + row * experts + place[None, :], mask=inside, other=0)
        all_E += tl.sum(found, axis=0)
        earlier_E += tl.sum(tl.where(row < tile, found, 0), axis=0)
    ids = load_ids(ids_TK, tile, tokens, top_k, BT, BK)
    first_E = tl.cumsum(all_E, 0) - all_E + earlier_E
    place_pairs(pairs_N, ids, load_order(order_E, experts, BE), first_E, tile, tokens, top_k, BT, BE, BK)
    tl.store(counts_E + place, all_E, mask=(place < experts) & (tile == 0))


@triton.jit
def load_order(order_E, experts: tl.constexpr, BE: tl.constexpr):
    """The expert of each column, `[BE]`."""
    place = tl.arange(0, BE)
    columns = place.to(tl.int64)
    if order_E is not None:
        columns = tl.load(order_E + place, mask=place < experts, other=_NO_EXPERT)
    return columns


@triton.jit
def load_ids(ids_TK, tile, tokens, top_k: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr):
    """The ids of a tile's tokens, `[BT, BK]`."""
    token = tile * BT + tl.arange(0, BT)[:, None]
    k = tl.arange(0, BK)[None, :]
    return tl.load(ids_TK + token.to(tl.int64) * top_k + k, mask=(token < tokens) & (k < top_k), other=_NO_ID)


@triton.jit
def expert_is(ids, columns, k, BK: tl.constexpr):
    """Whether the `k`-th id of a token is that of a column, `[BT, BE]`."""
    ids_T = tl.sum(tl.where(tl.arange(0, BK)[None, :] == k, ids, 0), axis=1)
    return ids_T[:, None] == columns[None, :]


@triton.jit
def rows_of_tokens(ids, columns, top_k: tl.constexpr, BT: tl.constexpr, BE: tl.constexpr, BK: tl.constexpr):
    """How many rows each token has of each column, int32 `[BT, BE]`."""
    rows = tl.zeros([BT, BE], dtype=tl.int32)
    for k in tl.static_range(top_k):
        rows += expert_is(ids, columns, k, BK).to(tl.int32)
    return rows


@triton.jit
def place_pairs(
    pairs_N,
    ids,
    columns,
    first_E,
    tile,
    tokens,
    top_k: tl.constexpr,
    BT: tl.constexpr,
    BE: tl.constexpr,
    BK: tl.constexpr,
):
    """Write the tile's pairs to their places, of which `first_E` has each column's first one for this tile."""
    token = tile * BT + tl.arange(0, BT)
    rows = rows_of_tokens(ids, columns, top_k, BT, BE, BK)
    next_TE = tl.cumsum(rows, 0) - rows + first_E[None, :]
    for k in tl.static_range(top_k):
        hit = expert_is(ids, columns, k, BK)
        place_T = tl.sum(tl.where(hit, next_TE, 0), axis=1)
        tl.store(pairs_N + place_T, token.to(tl.int64) * top_k + k, mask=token < tokens)
        next_TE += hit.to(tl.int32)
