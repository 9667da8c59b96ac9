"""The exchange between GPUs, its steps run by the CPU: what the battery does not see.

Ranks are processes that share memory, as GPUs do; the text of the steps is what nvcc compiles.
"""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mixtralkit.dist.collective_error import LateRank
from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology
from mixtralkit.errors import RankFailure, UsageError
from mixtralkit.moe.dispatch import cuda_peer_needs
from mixtralkit.moe.dispatch.cuda_peer import CudaPeerDispatch
from mixtralkit.moe.dispatch.cuda_peer_exchange import CudaPeerExchange, route_table
from mixtralkit.moe.placement.plan import even_split
from mixtralkit.moe.placement.routes import Routes, routes_of
from mixtralkit.moe.routing import Routing
from mixtralkit.ops.permute import weighted_sum
from tests.dispatches import PEER
from tests.ranks import run_ranks

pytestmark = pytest.mark.skipif(not PEER, reason="no native kernels")
EXPERTS = 4


def _routes(collectives: Collectives) -> Routes:
    topology = Topology((0,) * collectives.size)
    return routes_of(even_split(EXPERTS, collectives.size), topology, collectives.rank)


def _dispatch(collectives: Collectives, **options: Any) -> CudaPeerDispatch:
    return CudaPeerDispatch(CudaPeerExchange(collectives, EXPERTS, 8 << 10, **options), _routes(collectives))


def _batch(tokens: int, seed: int, top_k: int = 2, width: int = 24) -> tuple[torch.Tensor, Routing]:
    """Random tokens for random experts."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.rand(tokens, EXPERTS, generator=generator).argsort(dim=1)[:, :top_k].contiguous()
    weights = torch.softmax(torch.randn(tokens, top_k, generator=generator), dim=1)
    return torch.randn(tokens, width, generator=generator), Routing(ids, weights)


@pytest.mark.parametrize("step", ["dispatch", "combine"])
def test_a_rank_that_does_not_come_is_named(step: str) -> None:
    """Within the time-out, by the exchange that misses it; what was not received is nothing, or not a number; and
    everything that follows says the same at once.
    """
    (found, _) = run_ranks(2, _wait_in_vain, step)
    missing = {
        "dispatch": "dispatch 2: it has not sent its rows",
        "combine": "combine 2: it has not sent its results back",
    }
    assert found["messages"] == [f"rank 0 has waited 1 s for rank 1 in {missing[step]}"] * 2
    assert found["nothing"]


@torch.no_grad()
def _wait_in_vain(collectives: Collectives, step: str) -> dict[str, Any]:
    collectives.timeout = 1.0
    dispatch, (x, routing) = _dispatch(collectives).recordable, _batch(3, 0)
    rows, counts, handle = dispatch.dispatch(x, routing)
    dispatch.combine(rows, handle)
    if collectives.rank == 1 and step == "dispatch":
        return {}
    rows, counts, handle = dispatch.dispatch(x, routing)
    if collectives.rank == 1:
        return {}
    nothing = isinstance(counts, torch.Tensor) and not counts.any()
    if step == "combine":
        nothing = bool(dispatch.combine(rows, handle).isnan().all())
    messages = []
    for _ in range(2):
        with pytest.raises(LateRank) as error:
            dispatch.combine(rows, handle)
        messages.append(str(error.value))
    return {"messages": messages, "nothing": nothing}


def test_ranks_that_disagree_about_a_row_say_so() -> None:
    """Every rank names the other, and no row is taken for what it is not."""
    messages = run_ranks(2, _disagree)
    assert messages[0].startswith(
        "in dispatch 1 rank 1 sent rank 0 1 tokens of 8 x torch.bfloat16, 2 rows each, which "
    )
    assert messages[1].startswith(
        "in dispatch 1 rank 0 sent rank 1 1 tokens of 24 x torch.float32, 2 rows each, which "
    )


def _disagree(collectives: Collectives) -> str:
    dispatch, (x, routing) = _dispatch(collectives), _batch(1, 0)
    with pytest.raises(RankFailure) as error:
        dispatch.dispatch(x if collectives.rank == 0 else x[:, :8].bfloat16(), routing)
    return str(error.value)


def test_a_broken_promise_of_even_tokens_is_found() -> None:
    """Two tokens here and three there would have been written beyond the bound."""
    assert all("tokens of 24 x torch.float32" in message for message in run_ranks(2, _uneven))


@torch.no_grad()
def _uneven(collectives: Collectives) -> str:
    dispatch, (x, routing) = _dispatch(collectives).recordable, _batch(2 + collectives.rank, 0)
    _, counts, _ = dispatch.dispatch(x, routing)
    assert isinstance(counts, torch.Tensor)
    assert not counts.any()
    with pytest.raises(RankFailure) as error:
        dispatch.dispatch(x, routing)
    return str(error.value)


@pytest.mark.parametrize("ranks", [1, 3])
def test_even_tokens_need_no_numbers_on_the_host(ranks: int) -> None:
    """The same rows and results as with counts read, behind a bound that no batch of this size passes."""
    assert run_ranks(ranks, _even) == [True] * ranks


@torch.no_grad()
def _even(collectives: Collectives) -> bool:
    dispatch, (x, routing) = _dispatch(collectives), _batch(5, collectives.rank)
    rows, counts, handle = dispatch.dispatch(x, routing)
    wanted = dispatch.combine(rows * 3, handle)
    assert dispatch.waits_for_device
    assert not dispatch.recordable.waits_for_device
    more, on_device, even_handle = dispatch.recordable.dispatch(x, routing)
    assert isinstance(on_device, torch.Tensor)
    assert on_device.dtype == torch.int64
    found = dispatch.recordable.combine(more * 3, even_handle)
    assert on_device.tolist() == counts
    assert len(more) == collectives.size * 5 * min(2, len(on_device))
    return torch.equal(more[: len(rows)], rows) and torch.equal(found, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("top_k", [1, 2, 3, 4])
def test_the_sum_has_the_bits_of_the_reference(dtype: torch.dtype, top_k: int) -> None:
    """Numbers from the smallest to beyond what the dtype can hold, in odd and even widths."""
    assert all(run_ranks(2, _bits, dtype, top_k))


@torch.no_grad()
def _bits(collectives: Collectives, dtype: torch.dtype, top_k: int) -> bool:
    good = []
    for width in (7, 24):
        x, routing = _batch(6, collectives.rank, top_k, width)
        x = (x * 10.0 ** torch.linspace(-9, 5, width)).to(dtype)
        dispatch = _dispatch(collectives)
        rows, _, handle = dispatch.dispatch(x, routing)
        wanted = weighted_sum(x[:, None].expand(-1, top_k, -1), routing.weights_TK).to(dtype)
        good.append(torch.equal(dispatch.combine(rows, handle), wanted))
    return all(good)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_in_8_bits_are_those_of_torch(dtype: torch.dtype) -> None:
    """Scaled by the largest of the row, rounded to e4m3; all zeros stay zeros."""
    assert all(run_ranks(2, _fp8, dtype))


@torch.no_grad()
def _fp8(collectives: Collectives, dtype: torch.dtype) -> bool:
    x, routing = _batch(40, 5, top_k=1, width=64)
    x = (x * 10.0 ** torch.linspace(-6, 0, 64)).to(dtype)  # down to its subnormal numbers, and below
    x[7] = 0
    if collectives.rank == 1:
        x, routing = x[:0], Routing(routing.expert_ids_TK[:0], routing.weights_TK[:0])
    dispatch = _dispatch(collectives, fp8=True)
    rows, _, handle = dispatch.dispatch(x, routing)
    scales = x.float().abs().amax(1, keepdim=True) / 448
    scales = torch.where(scales > 0, scales, 1.0)
    wanted = ((x.float() / scales).to(torch.float8_e4m3fn).float() * scales).to(dtype)
    return torch.equal(dispatch.combine(rows, handle), wanted)


def test_computation_fits_between_sending_and_receiving() -> None:
    """Two dispatches and two combines are under way at once, over many exchanges of other sizes on every rank: no
    region is written before it was read.
    """
    run_ranks(3, _in_flight)


@torch.no_grad()
def _in_flight(collectives: Collectives) -> None:
    exchange, routes = CudaPeerExchange(collectives, EXPERTS, 8 << 10), _routes(collectives)
    table = route_table(routes, torch.device("cpu"))
    for turn in range(0, 60, 2):
        batches = [_batch((7 * turn + 3 * collectives.rank + n) % 11, 100 * turn + n) for n in (0, 1)]
        tickets = [exchange.send(x, routing.expert_ids_TK, table, len(x)) for x, routing in batches]
        arrivals = [exchange.receive(ticket, table, torch.full((66, 24), float("nan")), 2, None) for ticket in tickets]
        back = [exchange.send_back(arrival.rows_RD * 2, arrival, 2) for arrival in arrivals]
        for ticket, (x, _) in zip(back, batches, strict=True):
            out = torch.empty(2 * len(x), 24)
            exchange.receive_back(ticket, None, 2, out)
            assert torch.equal(out, 2 * x.repeat_interleave(2, dim=0))
    exchange.check()


def test_a_recorded_step_has_to_fit() -> None:
    assert run_ranks(1, _too_many) == ["200 tokens of a recorded step are more than the 69 that one exchange can take"]


def _too_many(collectives: Collectives) -> str:
    dispatch, (x, routing) = _dispatch(collectives).recordable, _batch(200, 0)
    with pytest.raises(UsageError) as error:
        dispatch.dispatch(x, routing)
    return str(error.value)


def test_what_two_gpus_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """One host, the library, and access of every GPU to every other."""
    why_not, second = cuda_peer_needs.why_not_cuda_peer, torch.device("cuda", 1)
    assert why_not(second, 2) == "it needs all ranks on one host, and they are on 2"
    missing = SimpleNamespace(CUDA="_cuda", why_not=lambda name: "not built")
    monkeypatch.setattr(cuda_peer_needs, "library", missing)
    assert why_not(second, 1) == "it needs the native kernels for GPUs: not built"
    missing.why_not = lambda name: None
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "can_device_access_peer", lambda one, other: (one, other) != (1, 2))
    assert why_not(second, 1) == "cuda:1 cannot write into the memory of cuda:2"
    monkeypatch.setattr(torch.cuda, "can_device_access_peer", lambda one, other: True)
    assert why_not(second, 1) is None
