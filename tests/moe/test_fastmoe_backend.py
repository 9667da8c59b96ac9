"""The adapter to FastMoE, against fastmoe_stand_in.py: that one stands in for a package that needs a GPU to be built.

So these tests prove how the adapter calls, and what comes out if FastMoE does what it documents; against FastMoE itself
it has not been run.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology
from mixtralkit.errors import UsageError
from mixtralkit.model.transformer import Block, Transformer
from mixtralkit.moe.fastmoe_backend import FastMoeLayer, OwnRows, fastmoe_choice, own_rows
from mixtralkit.moe.layer import MoELayer
from mixtralkit.moe.load import ExpertLoad
from mixtralkit.moe.placement.plan import even_split
from mixtralkit.moe.placement.routes import routes_of
from mixtralkit.moe.strategies import Strategies
from mixtralkit.ops.rms_norm import Norm
from mixtralkit.parallelize import moe_layers, parallelize
from tests.moe.fastmoe_stand_in import FMoE, OldFMoE, installed
from tests.random_model import TINY, random_model
from tests.ranks import run_ranks

CONFIG = replace(TINY, num_experts=4)


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Both add the same two float32 numbers, weighted, but round at other places; and torch's products of other shapes
    may add in another order.
    """
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def spread(model: Transformer, ranks: int = 1, rank: int = 0) -> ExpertLoad:
    load = ExpertLoad(CONFIG.num_layers, CONFIG.num_experts, torch.device("cpu"))
    routes = routes_of(even_split(CONFIG.num_experts, ranks), Topology((0,) * ranks), rank)
    parallelize(model, routes=[routes] * CONFIG.num_layers, dispatch_for=own_rows, load=load, layer_of=FastMoeLayer)
    return load


@pytest.mark.parametrize("layer", [FMoE, OldFMoE])
@torch.inference_mode()
def test_logits_are_those_of_the_model(layer: type[FMoE]) -> None:
    tokens = torch.randint(CONFIG.vocab_size, (2, 9))
    whole, model = random_model(CONFIG), random_model(CONFIG)
    with installed(layer):
        load = spread(model)
        assert_close(model(tokens), whole(tokens))
    assert load.rows_LE.sum(1).tolist() == [18 * CONFIG.top_k] * CONFIG.num_layers
    assert moe_layers(model)[0].timeline.rows_computed == 18 * CONFIG.top_k * CONFIG.num_layers


@pytest.mark.parametrize("ranks", [2, 4])
def test_experts_are_found_on_their_ranks(ranks: int) -> None:
    """Each rank has tokens of its own, the last one none, and its answer is that of the whole model's layer."""
    for tokens, (found, expected, rows, chosen) in enumerate(run_ranks(ranks, _one_layer)):
        assert_close(found, expected)
        assert torch.equal(rows, chosen)
        assert found.shape[0] == (tokens + 3 if tokens < ranks - 1 else 0)


@torch.inference_mode()
def _one_layer(collectives: Collectives) -> tuple[torch.Tensor, ...]:
    whole, model = random_model(CONFIG), random_model(CONFIG)
    tokens = collectives.rank + 3 if collectives.rank < collectives.size - 1 else 0
    x_TD = torch.randn(tokens, CONFIG.dim, generator=torch.Generator().manual_seed(collectives.rank))
    norm = Norm(torch.ones(CONFIG.dim), 1e-5)
    with installed():
        load = spread(model, collectives.size, collectives.rank)
        found = moe_layers(model)[1](x_TD, norm)
    ids_TK = moe_layers(model)[1].gate(torch.nn.functional.rms_norm(x_TD, (CONFIG.dim,), eps=1e-5)).expert_ids_TK
    chosen = torch.bincount(ids_TK.flatten(), minlength=CONFIG.num_experts)
    expected = cast(Block, whole.layers[1]).feed_forward(x_TD, norm)
    return found, expected, load.rows_LE[1], chosen


@torch.inference_mode()
def test_weights_are_not_copied_and_keep_their_names() -> None:
    whole, model = random_model(CONFIG), random_model(CONFIG)
    with installed():
        spread(model)
        model(torch.zeros(1, 3, dtype=torch.int64))
    assert list(model.state_dict()) == list(whole.state_dict())
    layer = moe_layers(model)[0]
    assert isinstance(layer, FastMoeLayer)
    weights = [weight.data_ptr() for expert in cast(FMoE, layer._fmoe).experts for weight in cast(Any, expert)._weights]
    assert weights == [weight.data_ptr() for weight in layer.experts.parameters()]


def test_its_steps_are_not_recorded() -> None:
    """FastMoE reads counts on the host, which no CUDA graph can hold."""
    model = random_model(CONFIG)
    spread(model)
    assert "fastmoe reads counts on the host" in str(moe_layers(model)[0].why_it_waits)
    assert [type(layer) for layer in moe_layers(model)] == [FastMoeLayer] * CONFIG.num_layers
    assert issubclass(FastMoeLayer, MoELayer)
    for call in (lambda: OwnRows().dispatch(torch.empty(0), None), lambda: OwnRows().combine(torch.empty(0), None)):  # type: ignore[arg-type]
        with pytest.raises(AssertionError, match="inside its layer"):
            call()


def choice(**others: Any) -> str:
    facts = {"device": torch.device("cuda"), "world_size": 2, "num_experts": 8, "quantized": False}
    return fastmoe_choice(**{**facts, **others}).name


def test_it_can_be_had_on_gpus_where_it_is_installed() -> None:
    with installed():
        assert choice() == "fastmoe"
        assert choice(strategies=Strategies(), dispatch="auto", world_size=8) == "fastmoe"


REFUSED: Sequence[tuple[dict[str, Any], str]] = (
    ({"device": torch.device("cpu")}, "kernels are for GPUs, and this run is on cpu; leave out --moe-backend fastmoe"),
    ({"quantized": True}, "FastMoE has no quantized weights; leave out --quantize"),
    ({"dispatch": "collective"}, "--dispatch collective moves no rows under --moe-backend fastmoe"),
    ({"explain": True}, "--explain compares mixtralkit's own dispatches"),
    ({"world_size": 3}, "8 do not divide among 3; use 1 or 2 or 4 or 8 ranks"),
    ({"world_size": 16}, "8 do not divide among 16"),
    ({"strategies": Strategies(placement=Path("plan.json"))}, "placement is a strategy of mixtralkit's own layers"),
    ({"strategies": Strategies(overlap=2, sources={"overlap": "--overlap"})}, "--overlap is a strategy"),
    ({"strategies": Strategies(overlap="off", sources={"overlap": "FMOE_FASTER_SCHEDULE_ENABLE"})}, "FMOE_FASTER_SCHE"),
    ({"strategies": Strategies(capacity_factor=1.5)}, "capacity_factor is a strategy"),
)


@pytest.mark.parametrize(("facts", "words"), REFUSED)
def test_what_it_would_ignore_is_refused(facts: dict[str, Any], words: str) -> None:
    with installed(), pytest.raises(UsageError, match=words):
        choice(**facts)


def test_variables_that_it_would_read_itself_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMOE_FASTER_SHADOW_ENABLE", "0")
    with installed(), pytest.raises(UsageError, match="FastMoE reads FMOE_FASTER_SHADOW_ENABLE in its own way"):
        choice()


def test_where_it_is_not_installed_it_is_said_what_to_do() -> None:
    with pytest.raises(UsageError, match="which is not installed; build it from https://github.com/laekov/fastmoe"):
        choice()


def test_one_that_does_not_fit_this_torch_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its native half is missing, or was built for another torch."""
    monkeypatch.syspath_prepend(tmp_path)
    for cause in ("import fmoe_cuda", "raise ImportError('undefined symbol: _ZN3c10')"):
        (tmp_path / "fmoe.py").write_text(cause)
        monkeypatch.delitem(sys.modules, "fmoe", raising=False)
        with pytest.raises(UsageError, match=r"cannot be imported \(.*(fmoe_cuda|undefined).*\); build it again"):
            choice()
    assert not isinstance(sys.modules.get("fmoe"), ModuleType)
