"""How long dispatch + combine take, by dispatch and batch: what `auto`'s choice rests on.

    torchrun --standalone --nproc_per_node=2 benchmarks/dispatch_times.py

Rows have the width of the 791 M shape (1024, float32), 8 experts, top 2, routing at random. Experts do nothing.
Prints the median and spread of the time of a round trip, in milliseconds, and the bytes that leave a rank.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch

from mixtralkit.dist.launch import Group, LaunchOptions
from mixtralkit.dist.run_rank import run_rank
from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.dispatch.choose import make_dispatch
from mixtralkit.moe.placement.plan import even_split
from mixtralkit.moe.routing import Routing

WIDTH, EXPERTS, TOP_K = 1024, 8, 2
TOKENS_PER_RANK = (1, 2, 4, 8, 16, 32, 64, 128, 512)
REPEATS, ROUNDS = 15, 4


def round_trips(dispatch: Dispatch, x_TD: torch.Tensor, routing: Routing) -> Callable[[], None]:
    """Some dispatches and combines, as the layers of a model would make them."""

    def run() -> None:
        for _ in range(ROUNDS):
            rows_RD, _, handle = dispatch.dispatch(x_TD, routing)
            dispatch.combine(rows_RD, handle)

    return run


def measure(group: Group, name: str, tokens: int) -> tuple[list[float], int]:
    """Milliseconds of each round trip, and the bytes that this rank sends in one."""
    generator = torch.Generator().manual_seed(group.rank)
    ids_TK = torch.rand(tokens, EXPERTS, generator=generator).argsort(1)[:, :TOP_K].contiguous()
    routing = Routing(ids_TK, torch.full((tokens, TOP_K), 0.5))
    dispatch = make_dispatch(name, group.collectives, even_split(EXPERTS, group.world_size))
    run = round_trips(dispatch, torch.randn(tokens, WIDTH, generator=generator), routing)
    run()
    before, times = group.collectives.bytes_sent, []
    for _ in range(REPEATS):
        started = time.perf_counter()
        run()
        times.append((time.perf_counter() - started) / ROUNDS * 1e3)
    return times, (group.collectives.bytes_sent - before) // (REPEATS * ROUNDS)


@torch.inference_mode()
def main(group: Group) -> int:
    """Print a table on rank 0."""
    names = ("collective", "all_gather")
    if group.rank == 0:
        print(f"{group.world_size} ranks on {group.device}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}\n")
        print("| tokens a rank | " + " | ".join(f"{name} ms (min-max) | bytes" for name in names) + " |")
        print("|" + "---|" * (1 + 2 * len(names)))
    for tokens in TOKENS_PER_RANK:
        cells = []
        for name in names:
            times, sent = measure(group, name, tokens)
            cells.append(f"{statistics.median(times):.2f} ({min(times):.2f}-{max(times):.2f}) | {sent:,}")
        if group.rank == 0:
            print(f"| {tokens} | " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run_rank(main, LaunchOptions(device="cpu"), print))
