"""The held-out loss and the experts' shares against plain sums in float64."""

import pytest
import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.train.data import held_out_batches
from mixtralkit.train.evaluate import Evaluation, evaluate
from tests.random_model import TINY, random_model
from tests.ranks import run_ranks
from tests.train.tiny_training import ALONE, gates

TOKENS = torch.randint(3, TINY.vocab_size, (75,), generator=torch.Generator().manual_seed(0))


def measure(collectives: Collectives) -> Evaluation:
    """75 tokens in blocks of 16: two batches of two whole blocks, and one block of 11."""
    return evaluate(random_model(), held_out_batches(TOKENS, 16, bos_id=1, size=2), collectives)


def test_every_token_counts_once() -> None:
    """Block by block; float32 logits are good to 1e-5."""
    nats, model = 0.0, random_model()
    for targets in TOKENS.split(16):
        inputs = torch.cat([torch.tensor([1]), targets[:-1]])
        log_p = model(inputs[None])[0].double().log_softmax(-1)
        nats -= float(log_p[torch.arange(len(targets)), targets].sum())
    result = measure(ALONE)
    assert result.tokens == 75
    assert result.loss == pytest.approx(nats / 75, rel=1e-5)


def test_shares_are_those_of_all_tokens() -> None:
    counts = torch.zeros(TINY.num_layers, TINY.num_experts)
    model = random_model()
    for layer, gate in enumerate(gates(model)):

        def count(module: object, inputs: object, logits: torch.Tensor, layer: int = layer) -> None:
            for row in logits:
                counts[layer, row.topk(TINY.top_k).indices] += 1

        gate.register_forward_hook(count)
    for targets in TOKENS.split(16):
        model(torch.cat([torch.tensor([1]), targets[:-1]])[None])
    shares = torch.tensor(measure(ALONE).shares_LE)
    assert torch.allclose(shares, counts / (75 * TINY.top_k), atol=1e-6)


def test_ranks_share_the_work_and_agree() -> None:
    """Four ranks and three batches: the last rank has none."""
    results = run_ranks(4, measure)
    assert all(result == results[0] for result in results)
    alone = measure(ALONE)
    assert results[0].tokens == alone.tokens
    assert results[0].loss == pytest.approx(alone.loss, rel=1e-12)
