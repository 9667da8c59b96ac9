"""How well a model predicts held-out text, and how its experts share the work."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from mixtralkit.dist.collectives import Collectives
from mixtralkit.model.transformer import Transformer
from mixtralkit.train.data import Blocks
from mixtralkit.train.data_parallel import sum_over_ranks
from mixtralkit.train.load_balance import GateWatch, row_shares


@dataclass(frozen=True)
class Evaluation:
    """What a model makes of a text of `tokens` tokens.

    `loss` is the mean negative log-likelihood of a token, in nats; `shares_LE` says which part of the rows each expert
    of each layer got.
    """

    loss: float
    tokens: int
    shares_LE: tuple[tuple[float, ...], ...]


@torch.no_grad()
def evaluate(model: Transformer, batches: Sequence[Blocks], collectives: Collectives) -> Evaluation:
    """Measure `model` on every target once. The ranks share the batches and get the same result."""
    totals = torch.zeros(2, dtype=torch.float64)
    rows_LE = torch.zeros(model.config.num_layers, model.config.num_experts, dtype=torch.float64)
    with GateWatch(model) as watch:
        for blocks in batches[collectives.rank :: collectives.size]:
            logits_NV = model(blocks.inputs_BT).flatten(0, 1)
            nats = F.cross_entropy(logits_NV, blocks.targets_BT.flatten(), reduction="sum")
            totals += torch.tensor([nats.item(), blocks.targets_BT.numel()], dtype=torch.float64)
            shares_LE = torch.stack([row_shares(logits, model.config.top_k) for logits in watch.take()])
            rows_LE += shares_LE.cpu() * blocks.targets_BT.numel()
    nats_sum, tokens = sum_over_ranks(collectives, totals).tolist()
    shares = (sum_over_ranks(collectives, rows_LE) / tokens).tolist()
    return Evaluation(nats_sum / tokens, int(tokens), tuple(tuple(layer) for layer in shares))
