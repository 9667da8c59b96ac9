"""Rows to tokens: the sum whose order is fixed."""

import pytest
import torch

from mixtralkit.ops.permute import sum_rows, take_rows, weighted_sum


@pytest.mark.parametrize("top_k", [1, 2, 3])
@pytest.mark.parametrize("tokens", [0, 1, 7])
def test_the_sum_is_in_float32_and_in_the_order_of_the_top_k(tokens: int, top_k: int) -> None:
    """Bit for bit what numpy's float32 scalars give when they are added one after the other."""
    rows = torch.randn(tokens, top_k, 4).bfloat16()
    weights = torch.rand(tokens, top_k)
    found = weighted_sum(rows, weights)
    assert (found.dtype, found.shape) == (torch.float32, (tokens, 4))
    scalars, factors = rows.float().numpy(), weights.numpy()
    for token in range(tokens):
        for i in range(4):
            total = scalars[token, 0, i] * factors[token, 0]
            for k in range(1, top_k):
                total = total + scalars[token, k, i] * factors[token, k]
            assert found[token, i].item() == total.item()


def test_the_order_matters_and_is_kept() -> None:
    rows = torch.tensor([1e8, 1.0, -1e8]).view(1, 3, 1)
    assert weighted_sum(rows, torch.ones(1, 3)).item() == 0.0
    assert weighted_sum(rows[:, [0, 2, 1]], torch.ones(1, 3)).item() == 1.0


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("tokens", [0, 1, 6])
def test_rows_find_back_to_their_tokens_from_any_order(tokens: int) -> None:
    x = torch.randn(tokens, 5)
    weights = torch.rand(tokens, 3)
    pairs = torch.randperm(tokens * 3)
    rows = take_rows(x, pairs, 3)
    assert all(torch.equal(row, x[pair // 3]) for row, pair in zip(rows, pairs.tolist(), strict=True))
    expected = weighted_sum(x[:, None].expand(tokens, 3, 5), weights)
    assert torch.equal(sum_rows(rows, pairs, weights), expected)


def test_gradients() -> None:
    pairs = torch.randperm(6)
    rows = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(3, 2, dtype=torch.float64, requires_grad=True)
    # The sum itself is in float32: a step of 1e-2 (the function is bilinear) leaves an error of about 1e-5.
    assert torch.autograd.gradcheck(lambda r, w: sum_rows(r, pairs, w), (rows, weights), eps=1e-2, atol=1e-3, rtol=1e-3)
