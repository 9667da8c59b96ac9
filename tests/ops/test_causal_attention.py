"""Attention against loops over heads, tokens and positions in float64."""

import math

import pytest
import torch

from mixtralkit.ops.causal_attention import attention

# (new tokens, positions in all): a prefill, a decode step, a prefill in pieces, one token only.
LENGTHS = ((11, 11), (1, 11), (4, 11), (1, 1))
# (heads, KV heads)
HEADS = ((4, 2), (4, 1), (4, 4))


def operands(tokens: int, positions: int, heads: int, kv_heads: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    q = torch.randn(tokens, heads, 8).to(dtype)
    # Keys and values as the cache has them: a view of more room than is used.
    k, v = (torch.full((kv_heads, positions + 3, 8), torch.nan, dtype=dtype) for _ in range(2))
    k[:, :positions], v[:, :positions] = torch.randn(2, kv_heads, positions, 8).to(dtype)
    return q, k[:, :positions], v[:, :positions]


def loops(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int | None) -> torch.Tensor:
    q, k, v = q.double(), k.double(), v.double()
    (tokens, heads, head_dim), (kv_heads, positions, _) = q.shape, k.shape
    out = torch.full_like(q, torch.nan)
    for head in range(heads):
        kv_head = head // (heads // kv_heads)
        for token in range(tokens):
            here = positions - tokens + token
            first = 0 if window is None else max(0, here - window + 1)
            scores = [math.exp(float(q[token, head] @ k[kv_head, j]) / head_dim**0.5) for j in range(first, here + 1)]
            terms = [score * v[kv_head, first + j] for j, score in enumerate(scores)]
            out[token, head] = torch.stack(terms).sum(0) / sum(scores)
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("window", [None, 1, 3, 11, 50])
@pytest.mark.parametrize(("heads", "kv_heads"), HEADS)
@pytest.mark.parametrize(("tokens", "positions"), LENGTHS)
def test_it_is_attention(
    tokens: int, positions: int, heads: int, kv_heads: int, window: int | None, dtype: torch.dtype
) -> None:
    """Results are of size 1; in half precision the probabilities and the result are each rounded to dtype."""
    q, k, v = operands(tokens, positions, heads, kv_heads, dtype)
    error = (attention(q, k, v, window).double() - loops(q, k, v, window)).abs().max()
    assert error <= 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim"), [(2, 1, 8), (1, 1, 16), (8, 4, 32), (4, 4, 64), (8, 2, 128)]
)
@torch.no_grad()
def test_the_bits_do_not_depend_on_threads_or_place(
    heads: int, kv_heads: int, head_dim: int, dtype: torch.dtype
) -> None:
    """How many threads a rank has follows from how many ranks there are, and that must not change the text.

    Without padding, float32 differed for some of the lengths in all cases but the last, on a CPU with AVX-512.
    """
    for tokens, positions in ((1, 33), (1, 513), (2, 2), (17, 17), (31, 31), (5, 40)):
        q = torch.randn(tokens, heads, head_dim).to(dtype)
        k, v = torch.randn(2, kv_heads, positions, head_dim).to(dtype)
        torch.set_num_threads(1)
        expected = attention(q, k, v)
        cache = torch.full((2, 3, kv_heads, positions + 3, head_dim), torch.nan, dtype=dtype)
        cache[0, 1, :, :positions], cache[1, 1, :, :positions] = k, v
        for threads in (1, 2, 5, 16):
            torch.set_num_threads(threads)
            assert torch.equal(attention(q, k, v), expected), (tokens, positions, threads)
            assert torch.equal(attention(q, *cache[:, 1, :, :positions]), expected), (tokens, positions, threads)


def test_the_future_is_not_seen() -> None:
    q, k, v = operands(6, 6, 4, 2, torch.float32)
    before = attention(q, k, v)
    k[:, 5], v[:, 5] = 100.0, 100.0
    assert torch.equal(attention(q, k, v)[:5], before[:5])


def test_gradients() -> None:
    shapes = ((5, 4, 2), (2, 5, 2), (2, 5, 2))
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(attention, inputs)
