"""The parallelized model against the single-process one that it was made from."""

from dataclasses import replace

import pytest
import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology
from mixtralkit.model.transformer import Transformer
from mixtralkit.moe.dispatch.local import LocalDispatch
from mixtralkit.moe.load import ExpertLoad
from mixtralkit.moe.placement.plan import even_split
from mixtralkit.moe.placement.routes import routes_of
from mixtralkit.parallelize import parallelize
from tests.dispatches import SPREAD
from tests.random_model import TINY, random_model, spread
from tests.ranks import run_ranks

CONFIGS = {"top 2": TINY, "top 3": replace(TINY, top_k=3), "top 1 of 3": replace(TINY, num_experts=3, top_k=1)}


def _tokens(rank: int) -> torch.Tensor:
    """Another prompt on every rank, none of the same length; rank 2 has none."""
    if rank == 2:
        return torch.zeros(0, 4, dtype=torch.int64)
    return torch.randint(0, TINY.vocab_size, (1, 5 + 2 * rank), generator=torch.Generator().manual_seed(rank))


def _logits(collectives: Collectives, dispatches: list[str], dtype: torch.dtype) -> dict[tuple[str, str], torch.Tensor]:
    found = {}
    for name, config in CONFIGS.items():
        for dispatch in dispatches:
            model = random_model(config, dtype=dtype)
            spread(model, dispatch, collectives)
            found[name, dispatch] = model(_tokens(collectives.rank))
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("size", "dispatches"),
    [(1, ["local", *SPREAD]), (2, SPREAD), (3, SPREAD)],
)
def test_the_same_bits_as_one_process(size: int, dispatches: list[str], dtype: torch.dtype) -> None:
    """Equal, not close: rows are computed alike in any company, and sums have one order."""
    ranks = run_ranks(size, _logits, dispatches, dtype)
    for name, config in CONFIGS.items():
        plain = random_model(config, dtype=dtype)
        for rank, seen in enumerate(ranks):
            expected = plain(_tokens(rank))
            assert all(torch.equal(seen[name, dispatch], expected) for dispatch in dispatches)


def test_names_and_experts_kept() -> None:
    """A rank's parameters bear the checkpoint's names, and are those of its experts only."""
    model = Transformer(TINY)
    whole = dict(model.named_parameters())
    parallelize(
        model,
        routes=[routes_of(even_split(TINY.num_experts, 3), Topology((0, 0, 0)), 1)] * TINY.num_layers,
        dispatch_for=lambda routes, layer: LocalDispatch(TINY.num_experts),
        load=ExpertLoad(TINY.num_layers, TINY.num_experts, torch.device("cpu")),
    )
    kept = dict(model.named_parameters())
    missing = set(whole) - set(kept)
    assert set(kept) <= set(whole)
    assert {name.split(".")[4] for name in missing} == {"0", "1", "4"}
    assert all(".experts." in name for name in missing)


def test_load_counts_every_row() -> None:
    """T tokens make T * top_k rows in every layer, and the counts are the gate's own choices."""
    model = random_model()
    load = spread(model, "local", Collectives(None, torch.device("cpu")))
    model(_tokens(0))
    model(_tokens(1))
    assert load.rows_LE.sum(1).tolist() == [12 * TINY.top_k] * TINY.num_layers
    assert (load.rows_LE > 0).sum() > TINY.num_layers
