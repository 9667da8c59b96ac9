"""How long a dispatch and its combine take, with experts that do nothing."""

import time
from typing import Any

import torch

from mixtralkit.bench.machine_rates import synchronize
from mixtralkit.bench.repeats import Repeats
from mixtralkit.dist.launch import Group
from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.routing import Routing

TOKENS_PER_RANK = (1, 2, 4, 8, 16, 32, 64, 128, 512)


@torch.inference_mode()
def round_trips(
    group: Group, dispatch: Dispatch, tokens: int, *, width: int, num_experts: int, top_k: int, repeats: int
) -> dict[str, Any]:
    """Microseconds of a round trip of `tokens` of each rank, and the bytes that this rank sends in one, as JSON.

    `dispatch` is one of `num_experts`; rows are float32 `[width]`, the routing is random. All ranks call this together.
    """
    generator = torch.Generator().manual_seed(group.rank)
    ids_TK = torch.rand(tokens, num_experts, generator=generator).argsort(1)[:, :top_k].contiguous()
    x_TD = torch.randn(tokens, width, generator=generator)
    trips, bytes_sent = timed_round_trips(group, dispatch, x_TD, ids_TK, repeats=repeats)
    return {
        "dispatch": dispatch.name,
        "tokens_per_rank": tokens,
        "microseconds": trips.document(),
        "bytes_sent": bytes_sent,
    }


def timed_round_trips(
    group: Group, dispatch: Dispatch, x_TD: torch.Tensor, ids_TK: torch.Tensor, *, repeats: int
) -> tuple[Repeats, int]:
    """Microseconds of a round trip of these tokens to these experts, and the bytes that this rank sends in one."""
    weights_TK = torch.full(ids_TK.shape, 1 / ids_TK.shape[1], device=group.device)
    x_TD, routing = x_TD.to(group.device), Routing(ids_TK.to(group.device), weights_TK)
    # peer takes a few hundredths of the others' time, and a timing must be longer than a moment.
    rounds = 100 if dispatch.name == "peer" and len(x_TD) < 64 else 4
    _run(dispatch, x_TD, routing, rounds)
    before, times = group.collectives.bytes_sent, []
    for _ in range(repeats):
        started = time.perf_counter()
        _run(dispatch, x_TD, routing, rounds)
        synchronize(group.device)
        times.append((time.perf_counter() - started) / rounds * 1e6)
    return Repeats(tuple(times)), (group.collectives.bytes_sent - before) // (repeats * rounds)


def _run(dispatch: Dispatch, x_TD: torch.Tensor, routing: Routing, rounds: int) -> None:
    for _ in range(rounds):
        rows_RD, _, handle = dispatch.dispatch(x_TD, routing)
        dispatch.combine(rows_RD, handle)
