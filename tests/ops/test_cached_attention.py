"""Attention over blocks: where the blocks lie, how large they are and who shares them changes not a bit."""

import math
from collections.abc import Iterator, Sequence

import pytest
import torch

from mixtralkit.ops import library
from mixtralkit.ops.cached_attention import cached_attention
from mixtralkit.ops.rotary import Rotations

WAYS = library.VARIANTS
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
HEADS, KV_HEADS, HEAD_DIM = 6, 2, 24
ROOM = 256  # positions of a request
PROMPT = 150


@pytest.fixture(params=WAYS)
def variant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What computes: torch's operators, and each variant of the kernels that this processor has."""
    best = "torch" if library.why_not() else library.variant()
    if WAYS.index(request.param) > WAYS.index(best):
        pytest.skip(f"there is no {request.param} here")
    if request.param == "torch":
        monkeypatch.setattr(library, "ops_if_available", lambda: None)
        yield "torch"
    else:
        library.use_variant(request.param)
        yield request.param
        library.use_variant(best)


class Layer:
    """A cache in blocks of `block_size`, full of NaN, so that reading what was not written shows."""

    def __init__(self, block_size: int, dtype: torch.dtype = torch.float32, blocks: int | None = None) -> None:
        shape = (5 * ROOM // block_size if blocks is None else blocks, KV_HEADS, block_size, HEAD_DIM)
        self.keys, self.values = (torch.full(shape, math.nan, dtype=dtype) for _ in range(2))
        self.scattered = torch.randperm(shape[0], generator=torch.Generator().manual_seed(block_size)).tolist()
        self.blocks = ROOM // block_size

    def table(self, request: int) -> list[int]:
        """Blocks for `ROOM` positions, in no order, that no other request has."""
        blocks: list[int] = self.scattered[request * self.blocks : (request + 1) * self.blocks]
        return blocks

    def attend(
        self, tokens: torch.Tensor, segments: Sequence[tuple[int, int]], tables: list[list[int]], window: int | None
    ) -> torch.Tensor:
        """Attention of rows of queries, keys and values, with angles behind them."""
        qkv, angles = tokens.split([(HEADS + 2 * KV_HEADS) * HEAD_DIM, HEAD_DIM // 2], dim=1)
        return cached_attention(
            *(qkv.contiguous(), self.keys, self.values, torch.tensor(segments), torch.tensor(tables)),
            Rotations(angles.cos(), angles.sin()),
            num_heads=HEADS,
            sliding_window=window,
        )


def random_rows(count: int) -> torch.Tensor:
    """What `Layer.attend` takes."""
    return torch.randn(count, (HEADS + 2 * KV_HEADS) * HEAD_DIM + HEAD_DIM // 2)


@pytest.mark.parametrize("window", [None, 7, 70])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("variant")
def test_block_sizes(dtype: torch.dtype, window: int | None) -> None:
    """The same bits with scattered blocks as in one piece, which a block of all positions is; prompts, then tokens."""
    steps = [[(0, PROMPT), (0, 1), (0, 64)], [(PROMPT, 1), (1, 1), (64, 30)]]
    rows = [random_rows(sum(length for _, length in segments)) for segments in steps]

    def run(block_size: int) -> torch.Tensor:
        layer = Layer(block_size, dtype)
        tables = [layer.table(request) for request in range(3)]
        return torch.cat([layer.attend(r, s, tables, window) for r, s in zip(rows, steps, strict=True)])

    in_one_piece = run(ROOM)
    assert in_one_piece.isfinite().all()
    for block_size in (4, 8, 16, 32, 64, 128):
        assert torch.equal(run(block_size), in_one_piece)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("block_size", [8, 16, 32, 64])
@pytest.mark.usefixtures("variant")
def test_blocks_that_the_same_batch_fills_are_read(block_size: int, threads: int) -> None:
    """The second request begins with the first one's blocks, which are written in the same call; a third does so later.

    All get the bits that they get from blocks of their own.
    """
    torch.set_num_threads(threads)
    shared, end = 64, 100
    prefix, own = random_rows(end), [random_rows(end - shared) for _ in range(2)]
    layer = Layer(block_size)
    blocks = shared // block_size
    tables = [layer.table(request) for request in range(3)]
    sharing = [tables[0], *(tables[0][:blocks] + table[blocks:] for table in tables[1:])]
    rows = torch.cat((prefix, own[0]))
    together = layer.attend(rows, [(0, end), (shared, end - shared)], sharing[:2], None)
    later = layer.attend(own[1], [(shared, end - shared)], sharing[2:], None)
    alone = []
    for i in range(2):
        apart = Layer(block_size)
        apart.attend(prefix[:shared], [(0, shared)], tables[:1], None)
        alone.append(apart.attend(own[i], [(shared, end - shared)], tables[:1], None))
    assert torch.equal(together[end:], alone[0])
    assert torch.equal(later, alone[1])


@pytest.mark.parametrize(
    ("segment", "table"),
    [((0, 9), [2, 5]), ((0, 9), [2, -1]), ((8, 1), [-5, 0]), ((0, 9), [2]), ((16, 1), [0, 1]), ((5, 4), [2**40, 0])],
)
@pytest.mark.usefixtures("variant")
def test_blocks_that_are_not_there(segment: tuple[int, int], table: list[int]) -> None:
    """Found before anything is written, also for a segment before the wrong one."""
    layer = Layer(8, blocks=5)
    with pytest.raises(RuntimeError, match="block"):
        layer.attend(random_rows(1 + segment[1]), [(0, 1), segment], [[3] * len(table), table], None)
    assert layer.keys.isnan().all()
    assert layer.values.isnan().all()


@pytest.mark.usefixtures("variant")
def test_a_table_may_have_more_than_is_needed() -> None:
    """What fills up a short table is never looked at."""
    layer, rows = Layer(8, blocks=5), random_rows(8)
    found = layer.attend(rows, [(0, 8)], [[4, -1, 2**40]], None)
    assert torch.equal(found, Layer(8).attend(rows, [(0, 8)], [[0]], None))
