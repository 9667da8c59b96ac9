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
ROUNDS = 4  # round trips, as the layers of a model make them, in one timing


@torch.inference_mode()
def round_trips(
    group: Group, dispatch: Dispatch, tokens: int, *, width: int, num_experts: int, top_k: int, repeats: int
) -> dict[str, Any]:
    """Microseconds of a round trip of `tokens` of each rank, and the bytes that this rank sends in one, as JSON.

    `dispatch` is one of `num_experts`; rows are float32 `[width]`, the routing is random. All ranks call this together.
    """
    generator = torch.Generator().manual_seed(group.rank)
    ids_TK = torch.rand(tokens, num_experts, generator=generator).argsort(1)[:, :top_k].contiguous()
    routing = Routing(ids_TK.to(group.device), torch.full((tokens, top_k), 1 / top_k, device=group.device))
    x_TD = torch.randn(tokens, width, generator=generator).to(group.device)
    _run(dispatch, x_TD, routing)
    before, times = group.collectives.bytes_sent, []
    for _ in range(repeats):
        started = time.perf_counter()
        _run(dispatch, x_TD, routing)
        synchronize(group.device)
        times.append((time.perf_counter() - started) / ROUNDS * 1e6)
    return {
        "dispatch": dispatch.name,
        "tokens_per_rank": tokens,
        "microseconds": Repeats(tuple(times)).document(),
        "bytes_sent": (group.collectives.bytes_sent - before) // (repeats * ROUNDS),
    }


def _run(dispatch: Dispatch, x_TD: torch.Tensor, routing: Routing) -> None:
    for _ in range(ROUNDS):
        rows_RD, _, handle = dispatch.dispatch(x_TD, routing)
        dispatch.combine(rows_RD, handle)
