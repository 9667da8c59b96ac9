"""The exchange between GPUs on a GPU, which several processes share: slower than on several, and the same protocol.

Without a GPU all of it is skipped; test_cuda_peer.py and the battery run the same steps on the CPU.
"""

import os
from typing import Any

import pytest
import torch

from mixtralkit.dist.collective_error import LateRank
from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology
from mixtralkit.engine.step_recording import Tensors, new_pool, recorded
from mixtralkit.moe.dispatch.cuda_peer import CudaPeerDispatch
from mixtralkit.moe.dispatch.cuda_peer_exchange import CudaPeerExchange
from mixtralkit.moe.placement.plan import even_split
from mixtralkit.moe.placement.routes import routes_of
from mixtralkit.moe.routing import Routing
from mixtralkit.ops import library
from tests.moe.dispatch.battery import STEPS, Case, cases, expected_results, expected_rows, inputs, names_of, run_cases
from tests.ranks import run_ranks

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    pytest.mark.skipif(library.why_not(library.CUDA) is not None, reason=str(library.why_not(library.CUDA))),
]
GPU = torch.device("cuda", 0)
RANKS = 2
EXPERTS = 4
# As in test_battery.py; a GPU adds up in another order, of a dozen numbers.
TOLERANCE = {torch.float32: 4e-6, torch.bfloat16: 4e-2}
RUNS = [(name, case) for case in cases(RANKS) for name in names_of(case, list(STEPS))]


def _on_gpu(collectives: Collectives) -> Collectives:
    """The same ranks, whose tensors are on the one GPU; gloo carries what they agree on."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # what deterministic algorithms ask for
    torch.cuda.set_device(GPU)
    collectives.device = GPU
    return collectives


@pytest.fixture(scope="module")
def seen() -> list[dict[tuple[str, str], dict[str, Any]]]:
    return run_ranks(RANKS, _battery)


def _battery(collectives: Collectives) -> dict[tuple[str, str], dict[str, Any]]:
    return run_cases(_on_gpu(collectives), list(STEPS))


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run[0]}-{run[1].name}")
def test_the_battery(run: tuple[str, Case], seen: list[dict[tuple[str, str], dict[str, Any]]]) -> None:
    """Rows bit for bit, and results and gradients, as the loops of the battery have them."""
    name, case = run
    tolerance = TOLERANCE[case.dtype] * max(1.0, sum(case.tokens) / 24)
    for rank, answer in enumerate(expected_results(case)):
        result = seen[rank][name, case.name]
        rows, counts = expected_rows(case, rank)
        assert result["counts"] == counts
        assert torch.equal(result["rows"], torch.stack(rows) if rows else torch.empty(0, case.width, dtype=case.dtype))
        torch.testing.assert_close(
            result["twice"].double(), 2 * inputs(case, rank).x_TD.double(), atol=tolerance, rtol=tolerance
        )
        torch.testing.assert_close(result["out"].double(), answer["out"], atol=tolerance, rtol=tolerance)
        if case.tokens[rank]:
            torch.testing.assert_close(result["grad_x"].double(), answer["grad_x"], atol=tolerance, rtol=tolerance)


def test_a_recorded_exchange_goes_on_counting() -> None:
    """A CUDA graph with two layers' exchanges inside, replayed with other tokens and experts: as without a graph.

    Recording fails where anything waits for the device.
    """
    assert run_ranks(RANKS, _replayed) == [True] * RANKS


def _dispatch(collectives: Collectives) -> CudaPeerDispatch:
    topology = Topology((0,) * collectives.size)
    routes = routes_of(even_split(EXPERTS, collectives.size), topology, collectives.rank)
    return CudaPeerDispatch(CudaPeerExchange(collectives, EXPERTS, 64 << 10), routes)


def _draw(turn: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(turn)
    ids = torch.rand(6, EXPERTS, generator=generator).argsort(dim=1)[:, :2].contiguous()
    return torch.randn(6, 64, generator=generator).to(GPU, torch.bfloat16), ids.to(GPU)


@torch.no_grad()
def _replayed(collectives: Collectives) -> bool:
    dispatch = _dispatch(_on_gpu(collectives)).recordable
    x, ids = _draw(0)
    weights = torch.full((6, 2), 0.5, device=GPU)

    def step() -> Tensors:
        out = x
        for _ in range(2):
            rows, _, handle = dispatch.dispatch(out, Routing(ids, weights))
            out = dispatch.combine(rows * 2, handle)
        return [out]

    step()
    replay = recorded(step, new_pool(GPU))
    good = []
    for turn in range(1, 20):
        new_x, new_ids = _draw(10 * turn + collectives.rank)
        x.copy_(new_x)
        ids.copy_(new_ids)
        (out,) = replay()
        good.append(torch.equal(out, new_x * 4))
        dispatch.check()
    return all(good)


def test_a_device_does_not_wait_for_ever() -> None:
    """The kernel ends by itself, the host learns which rank did not come, and nothing is taken for a result."""
    assert run_ranks(RANKS, _late)[0] == "rank 0 has waited 1 s for rank 1 in dispatch 1: it has not sent its rows"


@torch.no_grad()
def _late(collectives: Collectives) -> str:
    collectives.timeout = 1.0
    dispatch = _dispatch(_on_gpu(collectives)).recordable
    if collectives.rank == 1:
        return ""
    x, ids = _draw(0)
    rows, counts, handle = dispatch.dispatch(x, Routing(ids, torch.full((6, 2), 0.5, device=GPU)))
    assert isinstance(counts, torch.Tensor)
    assert counts.tolist() == [0, 0]
    with pytest.raises(LateRank) as error:
        dispatch.combine(rows, handle)
    return str(error.value)
