"""The topology-aware gate against a loop over tokens in float64, and its promises."""

import math
from typing import Any

import pytest
import torch
from torch import nn

import mixtralkit.log
from mixtralkit.dist.topology import Topology
from mixtralkit.errors import UsageError
from mixtralkit.moe.gates.node_limited import NodeLimitedGate, experts_on_node, limit_to_node
from mixtralkit.moe.gates.topk import TopKGate
from mixtralkit.moe.placement.plan import even_split
from mixtralkit.ops import library
from mixtralkit.ops.gate import topk_gate

EXPERTS, WIDTH = 8, 16
HERE = torch.tensor([expert in (1, 2, 5, 6) for expert in range(EXPERTS)])


@pytest.fixture(params=["native", "torch"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extension's operators, and as without the extension."""
    if request.param == "torch":
        monkeypatch.setattr(library, "ops_if_available", lambda: None)
    elif library.why_not() is not None:
        pytest.skip(f"no native kernels: {library.why_not()}")


def _by_loops(logits_TE: torch.Tensor, top_k: int, here_E: torch.Tensor, most: int) -> tuple[Any, Any]:
    """The rule as it reads: rank the rows that leave, then find each token its experts."""
    logits, here = logits_TE.double().tolist(), here_E.tolist()
    chances = torch.softmax(logits_TE.double(), -1).tolist()
    best_first = [sorted(range(len(here)), key=lambda e, row=row: (-row[e], e)) for row in logits]  # type: ignore[misc]
    leaving = [(t, k) for t, order in enumerate(best_first) for k, e in enumerate(order[:top_k]) if not here[e]]
    leaving.sort(key=lambda row: (-chances[row[0]][best_first[row[0]][row[1]]], row))
    ids, weights = [], []
    for t, order in enumerate(best_first):
        experts = [e for k, e in enumerate(order[:top_k]) if (t, k) not in leaving[most:]]
        for _ in range(top_k - len(experts)):
            experts.append(next(e for e in order if here[e] and e not in experts))
        experts.sort(key=order.index)
        ids.append(experts)
        weights.append(torch.softmax(torch.tensor([logits[t][e] for e in experts], dtype=torch.float64), 0).tolist())
    return ids, weights


def _logits(tokens: int, ties: bool) -> torch.Tensor:
    """With `ties`, tokens that are all alike but for a few, each with two equal logits: the order has to decide."""
    if not ties:
        return torch.randn(tokens, EXPERTS)
    kinds = torch.randn(3, EXPERTS)
    kinds[:, 4] = kinds[:, 2]
    kinds[:, 7] = kinds[:, 0] = kinds.amax(1)
    return kinds[torch.randint(3, (tokens,))]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("top_k", [1, 2, 4])
@pytest.mark.parametrize("tokens", [0, 1, 40])
def test_the_rule_in_loops(tokens: int, top_k: int, ties: bool) -> None:
    """The same experts; a softmax in float32 loses a few units in the last place, 1e-6."""
    logits = _logits(tokens, ties)
    for most in {0, 1, 7, tokens * top_k // 2, tokens * top_k}:
        ids, weights = limit_to_node(logits, top_k, HERE, most)
        wanted_ids, wanted_weights = _by_loops(logits, top_k, HERE, most)
        assert (ids.dtype, weights.dtype, ids.shape) == (torch.int64, torch.float32, (tokens, top_k))
        assert ids.tolist() == wanted_ids
        wanted = torch.tensor(wanted_weights, dtype=torch.float64).view(tokens, top_k)
        torch.testing.assert_close(weights.double(), wanted, atol=1e-6, rtol=0)
        assert int((~HERE[ids]).sum()) <= most


def test_tokens_that_lose_nothing_keep_their_bits() -> None:
    """What is taken from one token does not show in another."""
    logits = torch.randn(40, EXPERTS)
    ids, weights = limit_to_node(logits, 2, HERE, 20)
    plain_ids, plain_weights = topk_gate(logits, 2)
    same = (ids == plain_ids).all(1)
    assert 0 < same.sum() < 40
    assert torch.equal(weights[same], plain_weights[same])


def _gate(fraction: float, here_E: torch.Tensor = HERE, top_k: int = 2) -> NodeLimitedGate:
    weight = torch.randn(EXPERTS, WIDTH, generator=torch.Generator().manual_seed(1))
    return NodeLimitedGate(nn.Parameter(weight, requires_grad=False), top_k, here_E, fraction)


@pytest.mark.parametrize("tokens", [0, 1, 40])
@pytest.mark.parametrize(("fraction", "here_E"), [(1.0, HERE), (2.0, HERE), (0.0, torch.ones(EXPERTS).bool())])
def test_without_a_limit_it_is_the_plain_gate(fraction: float, here_E: torch.Tensor, tokens: int) -> None:
    """The same bits: where every row may leave, and where none has to."""
    x = torch.randn(tokens, WIDTH)
    gate = _gate(fraction, here_E)
    found, plain = gate(x), TopKGate(gate.weight, 2)(x)
    assert torch.equal(found.expert_ids_TK, plain.expert_ids_TK)
    assert torch.equal(found.weights_TK, plain.weights_TK)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25])
def test_the_share_of_rows_that_leave(fraction: float) -> None:
    """Exactly as many as allowed: with half of the experts elsewhere, more would like to."""
    x = torch.randn(30, WIDTH)
    assert int((~HERE[_gate(fraction)(x).expert_ids_TK]).sum()) == math.floor(fraction * 60)


def test_experts_that_come_to_the_node_are_used() -> None:
    gate, x = _gate(0.0), torch.randn(30, WIDTH)
    gate.set_on_node(~HERE)
    assert not HERE[gate(x).expert_ids_TK].any()
    gate.set_on_node(torch.ones(EXPERTS).bool())
    assert torch.equal(gate(x).expert_ids_TK, TopKGate(gate.weight, 2)(x).expert_ids_TK)


def test_the_weight_has_a_gradient() -> None:
    """That of the softmax over the experts finally chosen, by autograd in float64."""
    gate, x = _gate(0.1), torch.randn(30, WIDTH)
    gate.weight.requires_grad_()
    routing = gate(x)
    routing.weights_TK[:, 0].sum().backward()
    weight = gate.weight.detach().double().requires_grad_()
    chosen = (x.double() @ weight.T).gather(1, routing.expert_ids_TK)
    torch.softmax(chosen, -1)[:, 0].sum().backward()
    assert gate.weight.grad is not None
    assert weight.grad is not None
    torch.testing.assert_close(gate.weight.grad, weight.grad.float(), atol=1e-5, rtol=1e-5)


def test_a_node_with_too_few_experts_is_refused() -> None:
    """At the start and at a switch, which then changes nothing."""
    with pytest.raises(UsageError, match="needs 5 experts on every node.*holds 4 of 8"):
        _gate(0.5, top_k=5)
    gate, x = _gate(0.0), torch.randn(9, WIDTH)
    with pytest.raises(UsageError, match="holds 1 of 8"):
        gate.set_on_node(torch.arange(EXPERTS) == 3)
    assert HERE[gate(x).expert_ids_TK].all()


@pytest.mark.parametrize("fraction", [-0.1, math.nan])
def test_no_such_fraction(fraction: float) -> None:
    with pytest.raises(UsageError, match="must be a number from 0 to 1"):
        _gate(fraction)


def test_the_model_is_said_to_be_another(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Once, and only where rows are held back."""
    monkeypatch.setattr(mixtralkit.log, "_noticed", set())
    for fraction in (1.0, 0.125, 0.125):
        _gate(fraction)
    (record,) = caplog.records
    assert record.message.startswith("at most 0.125 of a batch's rows leave their node")


def test_experts_of_the_ranks_of_a_node() -> None:
    """Three ranks on two nodes, the first and the last on one."""
    topology, device = Topology((0, 1, 0)), torch.device("cpu")
    placement = even_split(8, 3)  # 3, 3 and 2 experts
    found = [experts_on_node(placement, topology, rank, device).nonzero().flatten().tolist() for rank in range(3)]
    assert found == [[0, 1, 2, 6, 7], [3, 4, 5], [0, 1, 2, 6, 7]]
