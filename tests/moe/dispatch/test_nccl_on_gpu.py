"""The dispatches over NCCL where there is a GPU: one rank alone, a recorded step, and two ranks that share the GPU."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology
from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.dispatch.fixed import FixedDispatch
from mixtralkit.moe.dispatch.nccl import NcclDispatch
from mixtralkit.moe.dispatch.nccl_exchange import NcclExchange
from mixtralkit.moe.dispatch.nccl_library import nccl_facts, why_not_library, why_not_shared
from mixtralkit.moe.dispatch.row_mover import Piece
from mixtralkit.moe.placement.plan import even_split
from mixtralkit.moe.placement.routes import Routes, routes_of
from mixtralkit.moe.routing import Routing
from tests.ranks import run_ranks

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
KINDS: dict[str, type[NcclDispatch] | type[FixedDispatch]] = {"nccl": NcclDispatch, "fixed": FixedDispatch}


@pytest.fixture(scope="module", autouse=True)
def _there_is_nccl() -> None:
    if (problem := why_not_library()) is not None:
        pytest.skip(problem)


@pytest.fixture
def alone() -> Iterator[NcclExchange]:
    """A communicator of one rank, which sends to itself."""
    exchange = NcclExchange(Collectives(None, _gpu()), _gpu())
    yield exchange
    exchange.close()


def _gpu() -> torch.device:
    return torch.device("cuda", 0)


def _routes(ranks: int, rank: int) -> Routes:
    return routes_of(even_split(4, ranks), Topology((0,) * ranks), rank)


def _given(seed: int, tokens: int = 5) -> tuple[torch.Tensor, Routing]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.rand(tokens, 4, generator=generator).argsort(dim=1)[:, :2].contiguous()
    weights = torch.softmax(torch.randn(tokens, 2, generator=generator), dim=1)
    x = torch.randn(tokens, 64, generator=generator).bfloat16()
    return x.to(_gpu()), Routing(ids.to(_gpu()), weights.to(_gpu()))


def _there_and_back(dispatch: Dispatch, x_TD: torch.Tensor, routing: Routing) -> torch.Tensor:
    """Experts that give back what they get: the sum of each token's weights is 1, so this is x but for a rounding."""
    rows, _, handle = dispatch.dispatch(x_TD, routing)
    return dispatch.combine(rows, handle)


def test_rows_to_itself(alone: NcclExchange) -> None:
    """Pieces come to the places that are named, in the order of the caller's stream."""
    rows = torch.arange(12.0, device=_gpu()).view(6, 2)
    with torch.cuda.stream(torch.cuda.Stream()):
        doubled = rows * 2
        moved = alone.move(doubled, [Piece(0, 0, 2), Piece(0, 4, 1)], [Piece(0, 1, 2), Piece(0, 0, 1)], 3) + 1
        host = alone.on_host(moved)
    assert host.tolist() == [[17.0, 19.0], [1.0, 3.0], [5.0, 7.0]]
    assert torch.equal(alone.all_gather(rows), rows[None])


@pytest.mark.parametrize("name", KINDS)
def test_one_rank(alone: NcclExchange, name: str) -> None:
    x, routing = _given(1)
    out = _there_and_back(KINDS[name](alone, _routes(1, 0), _gpu()), x, routing)
    torch.testing.assert_close(out, x, atol=4e-2, rtol=0.0)  # bfloat16 rounds at 4e-3, and x is below 5


def test_a_recorded_step_follows_its_inputs(alone: NcclExchange) -> None:
    """Communication is part of the graph: replayed for another batch and routing, it gives what a call gives."""
    dispatch = FixedDispatch(alone, _routes(1, 0), _gpu())
    x, routing = _given(2)
    with torch.inference_mode():
        for _ in range(2):  # NCCL connects, and kernels are compiled, before
            _there_and_back(dispatch, x, routing)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # as the engine does: NCCL has threads
            out = _there_and_back(dispatch, x, routing)
        for seed in (3, 4):
            other_x, other = _given(seed)
            expected = _there_and_back(dispatch, other_x, other)
            for kept, new in ((x, other_x), (routing.expert_ids_TK, other.expert_ids_TK)):
                kept.copy_(new)
            routing.weights_TK.copy_(other.weights_TK)
            graph.replay()
            assert torch.equal(out, expected)
    del graph  # before the communicator is closed


def test_two_ranks_on_one_gpu() -> None:
    """Both dispatches bring back what went out, and rows and counts are those of loops."""
    if (problem := why_not_shared(nccl_facts().found, asked=True)) is not None:
        pytest.skip(problem)
    for rank, seen in enumerate(run_ranks(2, _shared)):
        x, _ = _given(10 + rank)
        for name in KINDS:
            torch.testing.assert_close(seen[name, "out"], x.cpu(), atol=4e-2, rtol=0.0)
            assert seen[name, "counts"] == seen["expected"][1]
            assert torch.equal(seen[name, "rows"], seen["expected"][0])


def _shared(collectives: Collectives) -> dict[Any, Any]:
    os.environ["NCCL_MULTI_RANK_GPU_ENABLE"] = "1"
    torch.cuda.set_device(_gpu())
    exchange = NcclExchange(collectives, _gpu())
    routes = _routes(2, collectives.rank)
    x, routing = _given(10 + collectives.rank)
    seen: dict[Any, Any] = {"expected": _expected(routes)}
    for name, kind in KINDS.items():
        dispatch = kind(exchange, routes, _gpu())
        rows, counts, handle = dispatch.dispatch(x, routing)
        found = counts.tolist() if isinstance(counts, torch.Tensor) else list(counts)
        seen[name, "counts"], seen[name, "rows"] = found, rows[: sum(found)].cpu()
        seen[name, "out"] = dispatch.combine(rows, handle).cpu()
    exchange.close()
    return seen


def _expected(routes: Routes) -> tuple[torch.Tensor, list[int]]:
    """By expert, then source, then token."""
    rows, counts = [], []
    for expert in routes.local_experts:
        mine = [_given(10 + source) for source in range(2)]
        found = [x[t] for x, routing in mine for t, _ in (routing.expert_ids_TK == expert).nonzero().tolist()]
        rows += found
        counts.append(len(found))
    return torch.stack(rows).cpu(), counts
