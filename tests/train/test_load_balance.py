"""The load-balancing loss against its definition in float64, and the watch on the gates."""

import pytest
import torch

from mixtralkit.model.transformer import Transformer
from mixtralkit.train.initialise import initialise
from mixtralkit.train.load_balance import GateWatch, load_balance_loss, row_shares
from tests.train.tiny_training import SHAPE, gates


def defined(logits_TE: torch.Tensor, top_k: int) -> float:
    """Equation 4 of arXiv:2101.03961 by loops in float64, with the K choices of a token counted as K rows."""
    tokens, experts = logits_TE.shape
    probabilities = logits_TE.double().softmax(-1)
    rows = [0] * experts
    for token in range(tokens):
        for expert in sorted(range(experts), key=lambda e: -float(logits_TE[token, e]))[:top_k]:
            rows[expert] += 1
    return sum(experts * rows[e] / (tokens * top_k) * float(probabilities[:, e].mean()) for e in range(experts))


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_the_loss_is_the_mean_of_its_definition_over_the_layers(top_k: int) -> None:
    """float32 sums of 50 probabilities are good to 1e-6."""
    logits = [torch.randn(50, 5), torch.randn(50, 5) * 3]
    expected = sum(defined(layer, top_k) for layer in logits) / 2
    assert load_balance_loss(logits, top_k).item() == pytest.approx(expected, rel=1e-5)


def test_balance_gives_one_and_collapse_gives_experts_over_top_k() -> None:
    spread = torch.eye(4).repeat(3, 1) * 50
    assert load_balance_loss([spread], 1).item() == pytest.approx(1.0)
    collapsed = torch.tensor([[50.0, 50.0, 0.0, 0.0]]).repeat(12, 1)
    assert load_balance_loss([collapsed], 2).item() == pytest.approx(2.0)


def test_the_gradient_moves_rows_from_the_crowded_expert() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0]]).repeat(8, 1).requires_grad_()
    load_balance_loss([logits], 1).backward()
    assert logits.grad is not None
    assert (logits.grad[:, 0] > 0).all()
    assert (logits.grad[:, 1:] < 0).all()


def test_shares_add_up_to_one() -> None:
    shares = row_shares(torch.tensor([[3.0, 2.0, 1.0, 0.0], [3.0, 0.0, 2.0, 1.0]]), 2)
    assert shares.tolist() == [0.5, 0.25, 0.25, 0.0]


def test_the_watch_sees_every_gate_in_order_and_leaves_nothing_behind() -> None:
    model = Transformer(SHAPE)
    initialise(model, seed=0)
    tokens = torch.arange(3, 13)[None]
    with GateWatch(model) as watch:
        model(tokens)
        seen = watch.take()
        assert watch.take() == []
    assert [tuple(logits.shape) for logits in seen] == [(10, 4)] * SHAPE.num_layers
    load_balance_loss(seen, 2).backward()
    for gate in gates(model):
        assert gate.weight.grad is not None
        assert gate.weight.grad.any()
        assert not gate._forward_hooks
    model(tokens)
    assert watch.take() == []
