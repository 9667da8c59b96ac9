"""Attention's kernels against attention written out in float64, through blocks in no order."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixtralkit.ops import triton_kernels
from mixtralkit.ops.cached_attention import cached_attention
from mixtralkit.ops.device_segments import device_segments
from mixtralkit.ops.rotary import Rotations

# Float32: sums of up to 300 products in another order. Half precision: queries, keys, weights and results are rounded
# once each; Triton's interpreter cuts bfloat16 off instead of rounding it, which is twice the error.
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 5e-3}
MANY = ((0, 1), (255, 1), (5, 3), (256, 1), (0, 19), (299, 1), (0, 0), (37, 17))  # start and length
POSITIONS = 2560  # that a cache has room for

Segments = Sequence[tuple[int, int]]


class Shape(NamedTuple):
    """Of a layer."""

    heads: int = 8
    kv_heads: int = 2
    head_dim: int = 64
    block_size: int = 16


class Case:
    """One call: rows, tables, and caches full of NaN but for what comes before the segments."""

    def __init__(self, segments: Segments, shape: Shape, dtype: torch.dtype, cache_dtype: torch.dtype) -> None:
        self.segments, self.shape = segments, shape
        heads, kv_heads, head_dim, block_size = shape
        tokens = sum(length for _, length in segments)
        self.qkv = torch.randn(tokens, (heads + 2 * kv_heads) * head_dim).to(dtype)
        self.angles = torch.rand(tokens, head_dim // 2) * 6
        blocks = POSITIONS // block_size
        free, counts = iter(torch.randperm(blocks).tolist()), [-(-sum(segment) // block_size) for segment in segments]
        self.longest = max(counts, default=0)
        self.tables = [[next(free) for _ in range(count)] + [-1] * (self.longest - count) for count in counts]
        self.caches = [torch.full((blocks, kv_heads, block_size, head_dim), math.nan) for _ in range(2)]
        for cache in self.caches:
            for request, (start, _) in enumerate(segments):
                where = self.places(request, start)
                cache[where] = torch.randn(start, kv_heads, head_dim)
        self.caches = [cache.to(cache_dtype) for cache in self.caches]

    def places(self, request: int, end: int) -> tuple[torch.Tensor, slice, torch.Tensor]:
        """Where the positions of a request up to `end` are."""
        position, size = torch.arange(end), self.shape.block_size
        return torch.tensor(self.tables[request], dtype=torch.int64)[position // size], slice(None), position % size

    def found(self, device: torch.device, window: int | None = None) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """What the kernels make of it, and the caches after that."""
        keys, values = (cache.to(device, copy=True) for cache in self.caches)
        angles = self.angles.to(device)
        segments_B2 = torch.tensor(self.segments, dtype=torch.int64).view(-1, 2)
        tables_BM = torch.tensor(self.tables, dtype=torch.int64).view(len(self.segments), self.longest)
        rotations_T = Rotations(angles.cos(), angles.sin())
        out = cached_attention(
            *(self.qkv.to(device), keys, values, segments_B2, tables_BM, rotations_T),
            num_heads=self.shape.heads,
            sliding_window=window,
        )
        return out.cpu(), [keys.cpu(), values.cpu()]

    def wanted(self, window: int | None = None) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The same in float64."""
        heads, kv_heads, head_dim, _ = self.shape
        q, k, v = self.qkv.double().unflatten(1, (-1, head_dim)).split([heads, kv_heads, kv_heads], dim=1)
        q, k = (self._rotated(x) for x in (q, k))
        caches, outs, row = [cache.double() for cache in self.caches], [q.flatten(1)[:0]], 0
        for request, (start, length) in enumerate(self.segments):
            rows, where = slice(row, row + length), self.places(request, start + length)
            for cache, new in zip(caches, (k, v), strict=True):
                cache[where[0][start:], :, where[2][start:]] = new[rows]
            keys, values = (cache[where].repeat_interleave(heads // kv_heads, dim=1) for cache in caches)
            query, key = torch.arange(start, start + length)[:, None], torch.arange(start + length)
            hidden = (key > query) | (key <= query - (window or math.inf))
            scores = torch.einsum("thd,shd->hts", q[rows], keys) * head_dim**-0.5
            weights = scores.masked_fill(hidden, -math.inf).softmax(2)
            outs.append(torch.einsum("hts,shd->thd", weights, values).flatten(1))
            row += length
        return torch.cat(outs), caches

    def _rotated(self, x: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * torch.exp(1j * self.angles.double())[:, None]).flatten(-2)


def compare(
    device: torch.device,
    segments: Segments,
    shape: Shape,
    dtype: torch.dtype = torch.float32,
    window: int | None = None,
    cache_dtype: torch.dtype | None = None,
) -> None:
    """Results, and all of the caches."""
    torch.manual_seed(0)
    case, tolerance = Case(segments, shape, dtype, cache_dtype or dtype), TOLERANCES[cache_dtype or dtype]
    (found, found_caches), (wanted, caches) = case.found(device, window), case.wanted(window)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), wanted, rtol=tolerance, atol=tolerance)
    for found_cache, cache in zip(found_caches, caches, strict=True):
        torch.testing.assert_close(found_cache.double(), cache, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_prompts_and_tokens_in_one_batch(kernels: torch.device, dtype: torch.dtype, head_dim: int) -> None:
    compare(kernels, MANY, Shape(4, 1, head_dim), dtype)


def test_the_tiles_of_hopper(kernels: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger ones, wherever this runs."""
    from mixtralkit.ops.triton import attention_kernels

    monkeypatch.setattr(attention_kernels, "architecture", lambda device: 90)
    compare(kernels, ((0, 70), (30, 1), (3, 33)), Shape(), torch.float16)


@pytest.mark.parametrize("window", [1, 20, 270])
def test_windows(kernels: torch.device, window: int) -> None:
    compare(kernels, MANY, Shape(4, 2, 16), torch.float32, window)


@pytest.mark.parametrize("shape", [Shape(6, 2, 24, 8), Shape(4, 4, 16, 64), Shape(5, 1, 32, 4), Shape(40, 1, 16, 128)])
def test_other_shapes(kernels: torch.device, shape: Shape) -> None:
    """Heads in no power of two, one to a KV head, more of them than a tile has rows; blocks larger than a step."""
    compare(kernels, ((0, 35), (70, 1), (9, 2)), shape)


def test_a_cache_of_another_dtype(kernels: torch.device) -> None:
    """As quantized models on the CPU have it."""
    compare(kernels, ((0, 35), (70, 1)), Shape(), torch.float32, cache_dtype=torch.bfloat16)


@settings(max_examples=6, deadline=None)
@given(
    segments=st.lists(st.tuples(st.integers(0, 70), st.sampled_from((0, 1, 1, 2, 3, 17))), max_size=5),
    block_size=st.sampled_from((8, 16, 32)),
    window=st.none() | st.integers(1, 80),
)
def test_any_batch(segments: list[tuple[int, int]], block_size: int, window: int | None) -> None:
    """Also none at all, and one without tokens."""
    pytest.importorskip("triton")
    with triton_kernels.interpreting():
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        compare(device, segments, Shape(4, 2, 16, block_size), window=window)


def test_the_rest_of_the_batch_changes_not_a_bit(kernels: torch.device) -> None:
    """Nor do longer tables, more splits and other requests' prompts."""
    torch.manual_seed(1)
    shape, together = Shape(4, 2, 16), Case(MANY, Shape(4, 2, 16), torch.float32, torch.float32)
    (found, caches), row = together.found(kernels), 0
    for request, segment in enumerate(MANY):
        alone = Case([segment], shape, torch.float32, torch.float32)
        rows = slice(row, row + segment[1])
        alone.qkv, alone.angles = together.qkv[rows], together.angles[rows]
        for cache, own in zip(caches, alone.caches, strict=True):
            own[alone.places(0, segment[0])] = cache[together.places(request, segment[0])]
        assert torch.equal(alone.found(kernels)[0], found[rows])
        row += segment[1]


def test_blocks_that_the_same_batch_fills_are_read(kernels: torch.device) -> None:
    """The second request begins with the first one's blocks, which are written in the same call."""
    torch.manual_seed(2)
    case = Case(((0, 32), (32, 9)), Shape(4, 2, 16), torch.float32, torch.float32)
    case.tables[1][:2] = case.tables[0][:2]
    torch.testing.assert_close(case.found(kernels)[0].double(), case.wanted()[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("segment", "table"), [((0, 9), [2, 5]), ((0, 9), [2, -1]), ((0, 9), [2]), ((16, 1), [0, 1]), ((5, 4), [2**40, 0])]
)
def test_blocks_that_are_not_there(kernels: torch.device, segment: tuple[int, int], table: list[int]) -> None:
    """Found before anything is written, also for a segment before the wrong one."""
    case = Case(((0, 1), segment), Shape(4, 2, 16, 8), torch.float32, torch.float32)
    case.caches, case.tables = [cache[:5] for cache in case.caches], [[3] * len(table), table]
    keys, values = (cache.to(kernels).fill_(math.nan) for cache in case.caches)
    rotations_T = Rotations(*(torch.ones_like(case.angles, device=kernels) for _ in range(2)))
    with pytest.raises(RuntimeError, match="block"):
        cached_attention(
            *(case.qkv.to(kernels), keys, values, torch.tensor(case.segments), torch.tensor(case.tables), rotations_T),
            num_heads=4,
            sliding_window=None,
        )
    assert all(bool(cache.isnan().all()) for cache in (keys, values))


def test_the_next_step_of_a_captured_graph(kernels: torch.device) -> None:
    """A batch of the same shape is copied over the one before, which has been made for the longest context."""
    tables_BM = torch.tensor([[4, 0], [3, -1]])
    captured = device_segments(torch.tensor([(31, 1), (31, 1)]), tables_BM, kernels)
    following = device_segments(torch.tensor([(20, 1), (3, 1)]), tables_BM, kernels)
    assert captured.longest_context == 32
    captured.requests_BX.copy_(following.requests_BX)
    assert captured.requests_BX.tolist() == [[0, 20, 1, 4, 0], [1, 3, 1, 3, -1]]
    assert captured.requests_T.tolist() == [0, 1]
