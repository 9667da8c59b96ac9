"""Recorded decode steps against the same steps one by one; on a GPU as CUDA graphs, else in Triton's interpreter."""

import gc
import weakref
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mixtralkit.dist.collective_error import LateRank
from mixtralkit.dist.collectives import Collectives
from mixtralkit.engine import decode_graphs
from mixtralkit.engine.decode_graphs import (
    SPARE_BLOCKS,
    DecodeGraphs,
    context_buckets,
    request_buckets,
    why_not_recorded,
)
from mixtralkit.engine.decode_inputs import NextToken
from mixtralkit.engine.engine import Engine
from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.engine.request import Request, SamplingParams
from mixtralkit.engine.runner import Runner
from mixtralkit.engine.running import Feed, Rows, RunningRequest
from mixtralkit.engine.step_plan import WorkResult
from mixtralkit.engine.step_recording import Pool, Tensors
from mixtralkit.model.batch import make_batch
from mixtralkit.model.kv_cache import KVCache
from mixtralkit.model.transformer import Transformer
from mixtralkit.moe.dispatch.collective_mover import CollectiveMover
from mixtralkit.moe.dispatch.fixed import FixedDispatch
from mixtralkit.moe.dispatch.local import LocalDispatch
from mixtralkit.moe.layer import MoELayer
from mixtralkit.ops import library, triton_kernels
from mixtralkit.parallelize import moe_layers
from mixtralkit.tokenizer import Tokenizer
from tests.host_reads import HostReads
from tests.random_model import TINY, random_model, spread
from tests.ranks import run_ranks
from tests.small_tokenizer import PIECES, small_tokenizer

CONFIG = replace(TINY, head_dim=16, num_heads=2, num_kv_heads=1, num_experts=3, context=64)
TABLES = [array("q", blocks) for blocks in ((5, 2, 7, 0), (1, 3), (4, 6, 8, 9))]
STARTS = (30, 3, 16)  # the second token of the first request begins a block


@pytest.fixture(autouse=True)
def _inference(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without the extension, which has whole halves of a block and would take what is to be interpreted."""
    monkeypatch.setattr(library, "ops_if_available", lambda: None)
    with torch.inference_mode():
        yield


def _model(device: torch.device) -> Transformer:
    model = random_model(CONFIG, seed=5).to(device)
    spread(model, "local", Collectives(None, device))
    return model


def _filled(model: Transformer) -> KVCache:
    """A cache in which the requests have taken in tokens up to `STARTS`, and a spare block."""
    cache = model.new_cache(10 + SPARE_BLOCKS)
    generator = torch.Generator().manual_seed(2)
    for kind in (0, 1):
        for layer in range(CONFIG.num_layers):
            block = cache.layer(layer)[kind]
            block.copy_(torch.randn(block.shape, generator=generator))
    return cache


def _step_by_step(model: Transformer, cache: KVCache, requests: Sequence[int], steps: int) -> list[torch.Tensor]:
    found = []
    for step in range(steps):
        tokens = [[7 * request + step] for request in requests]
        starts, tables = [STARTS[request] + step for request in requests], [TABLES[request] for request in requests]
        device = model.tok_embeddings.weight.device
        found.append(model.next_token_logits(make_batch(tokens, starts, tables, device), cache).clone())
    return found


def _replayed(graphs: DecodeGraphs, requests: Sequence[int], steps: int, most: int) -> list[torch.Tensor]:
    def token(request: int, step: int) -> NextToken:
        return NextToken(7 * request + step, STARTS[request] + step, TABLES[request])

    return [graphs.logits([token(request, step) for request in requests], most).clone() for step in range(steps)]


@pytest.mark.parametrize(("requests", "most"), [((0,), 1), ((1, 0), 4), ((2, 0, 1), 3)])
def test_a_recorded_step_has_the_logits_of_the_step(
    kernels: torch.device, requests: tuple[int, ...], most: int
) -> None:
    """With room left over, and without; the cache goes on from step to step. The kernels' tiles depend on the number of
    rows, so the order of additions may differ: float32's error on logits of the order of 1.
    """
    model = _model(kernels)
    graphs = DecodeGraphs(model, _filled(model), requests=[most], context=64)
    found = _replayed(graphs, requests, 3, most)
    for rows, exact in zip(found, _step_by_step(model, _filled(model), requests, 3), strict=True):
        torch.testing.assert_close(rows, exact, rtol=0, atol=1e-5)


def test_nothing_but_the_requests_own_blocks_is_written(kernels: torch.device) -> None:
    """Neither by the copies that fill a step up nor while steps are recorded; the spare block is nobody's."""
    model = _model(kernels)
    cache, before = _filled(model), _filled(model)
    graphs = DecodeGraphs(model, cache, requests=[1, 3], context=64)
    graphs.logits([], most=3)
    for layer in range(CONFIG.num_layers):
        for kind in (0, 1):
            assert torch.equal(cache.layer(layer)[kind][:-SPARE_BLOCKS], before.layer(layer)[kind][:-SPARE_BLOCKS])
    graphs.logits([NextToken(9, STARTS[0], TABLES[0])], most=3)
    changed = (cache.layer(0)[0] != before.layer(0)[0]).flatten(1).any(1).nonzero().flatten().tolist()
    assert changed == [TABLES[0][1], cache.num_blocks - 1]


def test_rows_are_counted_once_and_copies_not_at_all(kernels: torch.device) -> None:
    """The load is of the requests' own tokens; what the experts computed includes the copies."""
    model = _model(kernels)
    graphs = DecodeGraphs(model, _filled(model), requests=[4], context=64)
    layer: MoELayer = moe_layers(model)[0]
    assert layer.load.rows_LE.sum() == 0
    _replayed(graphs, (0, 1, 2), 2, most=3)
    assert layer.load.rows_LE.sum(1).tolist() == [2 * 3 * CONFIG.top_k] * CONFIG.num_layers
    assert layer.timeline.rows_computed == 2 * 4 * CONFIG.top_k * CONFIG.num_layers
    assert layer.timeline.communication == 0


def test_a_step_reads_nothing_from_the_device(kernels: torch.device) -> None:
    """Of all operators of a step none reads a number on the host, and on a GPU torch sees nothing wait for it."""
    model = _model(kernels)
    batch = make_batch([[3], [4]], [5, 17], [TABLES[0], TABLES[2]], kernels)
    cache = _filled(model)
    model.next_token_logits(batch, cache)  # addresses are looked up once
    with HostReads() as reads, _waiting_is_an_error(kernels):
        model.next_token_logits(batch, cache)
    assert reads.found == []


@contextmanager
def _waiting_is_an_error(device: torch.device) -> Iterator[None]:
    """On a GPU, torch raises where the host waits for it."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_what_reads_from_the_device_is_found() -> None:
    """The check of the test above can fail."""
    numbers = torch.arange(3)
    with HostReads() as reads:
        numbers.sum().item()
        bool(numbers[1] > 1)
        numbers.nonzero()
        numbers[numbers > 1]
        torch.bincount(numbers)
    assert reads.found == ["item", "is_nonzero", "nonzero", "index", "bincount"]


def test_a_position_without_a_block_is_refused(kernels: torch.device) -> None:
    graphs = DecodeGraphs(model := _model(kernels), _filled(model), requests=[1], context=64)
    with pytest.raises(RuntimeError, match="do not hold 33"):
        graphs.logits([NextToken(1, 32, TABLES[1])], most=1)


class _GivenUp(FixedDispatch):
    """Has noted on the device that a rank was late."""

    def check(self) -> None:
        raise LateRank("rank 0 has waited 60 s for rank 1 in dispatch 7")


def _use(layer: MoELayer, kind: type[FixedDispatch]) -> None:
    """On one rank; nobody else holds the dispatch."""
    device = next(layer.parameters()).device
    layer.use(kind(CollectiveMover(Collectives(None, device)), layer.routes, device))


def test_what_a_recorded_step_reads_outlives_its_use_by_the_layers(kernels: torch.device) -> None:
    """Dispatches may be chosen anew for each step that is not recorded."""
    model = _model(kernels)
    for layer in moe_layers(model):
        _use(layer, FixedDispatch)
    recorded = [weakref.ref(layer._dispatch) for layer in moe_layers(model)]
    graphs = DecodeGraphs(model, _filled(model), requests=[1], context=64)
    for layer in moe_layers(model):
        layer.use(LocalDispatch(CONFIG.num_experts))
    assert all(each() is not None for each in recorded)
    del graphs
    gc.collect()
    assert all(each() is None for each in recorded)


@pytest.mark.parametrize("still_used", [False, True])
def test_a_step_that_a_rank_was_late_for_is_not_answered(
    kernels: torch.device, tmp_path: Path, still_used: bool
) -> None:
    """The dispatch that noted it is the last layer's, in the recorded steps; the layer itself may have another by now,
    and the first layer has another in any case.
    """
    small_tokenizer(tmp_path)
    model = random_model(replace(CONFIG, vocab_size=PIECES), seed=5).to(kernels)
    spread(model, "local", Collectives(None, kernels))
    layer = moe_layers(model)[-1]
    _use(layer, _GivenUp)
    engine = Engine(
        model=model,
        tokenizer=Tokenizer(tmp_path / "tokenizer.model"),
        control=Collectives(None, torch.device("cpu")),
        limits=EngineLimits(batch_size=1, kv_tokens=48),
    )
    if not still_used:
        layer.use(LocalDispatch(CONFIG.num_experts))
    heard: list[str] = []
    with pytest.raises(LateRank, match="for rank 1 in dispatch 7"):
        engine.generate(
            [Request((5, 6, 7), SamplingParams(max_tokens=4, ignore_eos=True))], lambda number, text: heard.append(text)
        )
    assert heard == []


def test_buckets() -> None:
    """Every number of requests and positions has one, and not much more room than it needs."""
    assert request_buckets(1) == [1]
    assert request_buckets(5) == [1, 2, 4, 5]
    assert request_buckets(100) == [1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 100]
    assert context_buckets(64) == [64]
    assert context_buckets(32768) == [1024, 4096, 16384, 32768]


def test_why_a_model_is_not_recorded(kernels: torch.device) -> None:
    model = random_model(CONFIG).to(kernels)
    assert why_not_recorded(model) == "its layers are not those of a rank"
    spread(model, "local", Collectives(None, kernels))
    assert why_not_recorded(model) is None


def test_a_model_on_a_cpu_is_not_recorded() -> None:
    assert why_not_recorded(random_model(CONFIG)) == "the model is on a CPU"


def test_the_next_plan_is_made_while_a_recorded_step_runs(
    kernels: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replayed graph goes through no layer, whose call begins the planning otherwise. Here replays are what a GPU's
    are to the host: they give the same tensors again, and nothing of the step is run.
    """

    def once(step: Callable[[], Tensors], pool: Pool | None) -> Callable[[], Tensors]:
        results = step()
        return lambda: results

    monkeypatch.setattr(decode_graphs, "recorded", once)
    small_tokenizer(tmp_path)
    steered: list[Sequence[int]] = []
    model = random_model(replace(CONFIG, vocab_size=PIECES), seed=5).to(kernels)
    spread(model, "local", Collectives(None, kernels))
    engine = Engine(
        model=model,
        tokenizer=Tokenizer(tmp_path / "tokenizer.model"),
        control=Collectives(None, torch.device("cpu")),
        limits=EngineLimits(batch_size=1, kv_tokens=48),
        before_step=steered.append,
    )
    planned: list[bool] = []
    take = Runner._take

    def watched(request: RunningRequest, feed: Feed, rows: Rows) -> WorkResult:
        planned.append(engine._leader._coming is not None)
        return take(request, feed, rows)

    monkeypatch.setattr(Runner, "_take", staticmethod(watched))
    engine.generate([Request((5, 6, 7), SamplingParams(max_tokens=4, ignore_eos=True))])
    assert planned == [True] * 4
    assert (engine.stats.decode.steps, engine.stats.decode.recorded) == (3, 3)
    assert steered == [(3,)]  # nothing is decided for a step that is recorded


def _ranks_logits(collectives: Collectives) -> list[torch.Tensor]:
    """Rank 0 has two requests, rank 1 none: steps are for two on both."""
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode(), triton_kernels.interpreting():
        patch.setattr(library, "ops_if_available", lambda: None)
        model = random_model(CONFIG, seed=5)
        spread(model, "collective", collectives)
        assert why_not_recorded(model) is None
        graphs = DecodeGraphs(model, _filled(model), requests=[2], context=64)
        return _replayed(graphs, (1, 0) if collectives.rank == 0 else (), 2, most=2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="its ranks would interpret what is compiled")
def test_the_exchange_is_in_the_recorded_step() -> None:
    """Between real ranks, in sizes that do not depend on the requests. Tolerance as above."""
    first, second = run_ranks(2, _ranks_logits)
    with triton_kernels.interpreting():
        model = _model(torch.device("cpu"))
        for rows, exact in zip(first, _step_by_step(model, _filled(model), (1, 0), 2), strict=True):
            torch.testing.assert_close(rows, exact, rtol=0, atol=1e-5)
    assert [rows.shape[0] for rows in second] == [0, 0]
