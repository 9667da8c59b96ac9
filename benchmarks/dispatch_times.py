"""How long dispatch + combine take, by dispatch and batch: what `auto`'s choice rests on.

    torchrun --standalone --nproc_per_node=2 benchmarks/dispatch_times.py

The first table has rows of the width of the 791 M shape (1024, float32), 8 experts, top 2, routing at random. The
second has 8 rows of 8 KB (width 2048) from each rank: all of them to the next rank (8 tokens, top 1), and half of them
(4 tokens, top 2: one expert at home, one next door). Experts do nothing. Prints the median and spread of the time of a
round trip, in microseconds, and the bytes that leave a rank.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch

from mixtralkit.dist.launch import Group, LaunchOptions
from mixtralkit.dist.run_rank import run_rank
from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.dispatch.choose import make_dispatch, why_not_peer
from mixtralkit.moe.placement.plan import even_split
from mixtralkit.moe.routing import Routing

WIDTH, EXPERTS, TOP_K = 1024, 8, 2
TOKENS_PER_RANK = (1, 2, 4, 8, 16, 32, 64, 128, 512)
REPEATS = 15


def round_trips(dispatch: Dispatch, x_TD: torch.Tensor, routing: Routing, rounds: int) -> Callable[[], None]:
    """Some dispatches and combines, as the layers of a model would make them."""

    def run() -> None:
        for _ in range(rounds):
            rows_RD, _, handle = dispatch.dispatch(x_TD, routing)
            dispatch.combine(rows_RD, handle)

    return run


def measure(group: Group, name: str, x_TD: torch.Tensor, ids_TK: torch.Tensor, rounds: int) -> str:
    """The cells of one dispatch in a table: microseconds of a round trip, and the bytes that this rank sends in one."""
    routing = Routing(ids_TK, torch.full(ids_TK.shape, 1 / ids_TK.shape[1]))
    dispatch = make_dispatch(name, group.collectives, even_split(EXPERTS, group.world_size))
    run = round_trips(dispatch, x_TD, routing, rounds)
    run()
    before, times = group.collectives.bytes_sent, []
    for _ in range(REPEATS):
        started = time.perf_counter()
        run()
        times.append((time.perf_counter() - started) / rounds * 1e6)
    sent = (group.collectives.bytes_sent - before) // (REPEATS * rounds)
    return f"{statistics.median(times):,.0f} ({min(times):,.0f}-{max(times):,.0f}) | {sent:,}"


def table(group: Group, first: str, names: list[str], rows: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Measure `rows`, tokens and expert ids by their title, with the dispatches `names`; rank 0 prints."""
    if group.rank == 0:
        print(f"| {first} | " + " | ".join(f"{name} us (min-max) | bytes" for name in names) + " |")
        print("|" + "---|" * (1 + 2 * len(names)))
    for title, (x_TD, ids_TK) in rows.items():
        # peer takes a thousandth of the time, and a timing must be longer than a moment
        cells = [measure(group, name, x_TD, ids_TK, 100 if name == "peer" and len(x_TD) < 64 else 4) for name in names]
        if group.rank == 0:
            print(f"| {title} | " + " | ".join(cells) + " |", flush=True)


def next_door(group: Group) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Eight rows of 8 KB: all to the next rank's experts, or half of them to this rank's own."""
    placement = even_split(EXPERTS, group.world_size)
    own = placement.experts_of(group.rank)
    beyond = placement.experts_of((group.rank + 1) % group.world_size)
    eight = torch.tensor([[beyond[token % len(beyond)]] for token in range(8)])
    four = torch.tensor([[own[token % len(own)], beyond[token % len(beyond)]] for token in range(4)])
    return {"all to the next rank": (torch.randn(8, 2048), eight), "half of them": (torch.randn(4, 2048), four)}


@torch.inference_mode()
def main(group: Group) -> int:
    """Print two tables on rank 0."""
    names = ["collective", "all_gather", *([] if why_not_peer(group.device, group.topology.num_nodes) else ["peer"])]
    generator = torch.Generator().manual_seed(group.rank)
    batches = {
        str(tokens): (
            torch.randn(tokens, WIDTH, generator=generator),
            torch.rand(tokens, EXPERTS, generator=generator).argsort(1)[:, :TOP_K].contiguous(),
        )
        for tokens in TOKENS_PER_RANK
    }
    if group.rank == 0:
        print(f"{group.world_size} ranks on {group.device}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}\n")
    table(group, "tokens a rank", names, batches)
    if group.rank == 0:
        print()
    table(group, "8 rows of 8 KB", names, next_door(group))
    return 0


if __name__ == "__main__":
    sys.exit(run_rank(main, LaunchOptions(device="cpu"), print))
