"""The gate against its other definition: softmax over all experts, the largest, renormalised."""

import pytest
import torch

from mixtralkit.ops.gate import topk_gate


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [0, 1, 9])
@pytest.mark.parametrize(("experts", "top_k"), [(8, 2), (8, 1), (3, 3), (1, 1)])
def test_both_definitions_agree(tokens: int, experts: int, top_k: int, dtype: torch.dtype) -> None:
    """Both in float32 or better from the same logits; a softmax loses a few units in the last place, 1e-6."""
    logits = torch.randn(tokens, experts).to(dtype)
    ids, weights = topk_gate(logits, top_k)
    shares, expected_ids = torch.softmax(logits.double(), dim=-1).topk(top_k)
    assert (ids.dtype, weights.dtype, ids.shape) == (torch.int64, torch.float32, (tokens, top_k))
    torch.testing.assert_close(shares.float() / shares.float().sum(-1, keepdim=True), weights, rtol=0, atol=1e-6)
    # bfloat16 logits tie now and then; torch.topk takes either expert.
    assert torch.equal(logits.gather(1, ids), logits.gather(1, expected_ids))


@pytest.mark.usefixtures("way")
def test_huge_logits_do_not_overflow() -> None:
    ids, weights = topk_gate(torch.tensor([[1e30, -1e30, 9e29]]), 2)
    assert ids.tolist() == [[0, 2]]
    assert weights.tolist() == [[1.0, 0.0]]


@pytest.mark.usefixtures("way")
def test_of_equal_logits_the_lowest_id_comes_first() -> None:
    """On every device and in every variant: the choice must not depend on what computes it."""
    logits = torch.randint(0, 3, (50, 8)).float()
    ids, _ = topk_gate(logits, 3)
    assert ids.tolist() == [sorted(range(8), key=lambda e: (-row[e], e))[:3] for row in logits.tolist()]


def test_the_weights_have_gradients() -> None:
    logits = torch.randn(6, 5, requires_grad=True)
    topk_gate(logits, 2)[1][:, 0].sum().backward()
    shares = torch.softmax(logits.detach().double(), -1).topk(2).values
    first = shares[:, 0] / shares.sum(-1)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad.amax(-1), (first * (1 - first)).float())
