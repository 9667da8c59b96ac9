"""How long 8 rows of 8 KB take from each rank to the next and back, by dispatch.

    torchrun --standalone --nproc_per_node=2 benchmarks/dispatch_times.py

The rows have a width of 2048 (float32). All of them go to the next rank (8 tokens, top 1), or half of them (4 tokens,
top 2: one expert at home, one next door). Experts do nothing. Prints the median and spread of the time of a round trip,
in microseconds, and the bytes that leave a rank. Times by the number of tokens, with
routing at random, are in `tools/bench.py --round-trips`.
"""

import sys
import time

import torch

from mixtralkit.bench.round_trips import timed_round_trips
from mixtralkit.dist.launch import Group, LaunchOptions
from mixtralkit.dist.run_rank import run_rank
from mixtralkit.moe.dispatch.obstacles import obstacles
from mixtralkit.moe.dispatch.transport import Transport
from mixtralkit.moe.placement.plan import even_split
from mixtralkit.moe.placement.routes import routes_of

WIDTH, EXPERTS = 2048, 8
REPEATS = 15


def next_door(group: Group) -> dict[str, torch.Tensor]:
    """The expert ids of each batch: all beyond this rank, or half of them its own."""
    placement = even_split(EXPERTS, group.world_size)
    own = placement.experts_of(group.rank)
    beyond = placement.experts_of((group.rank + 1) % group.world_size)
    eight = torch.tensor([[beyond[token % len(beyond)]] for token in range(8)])
    four = torch.tensor([[own[token % len(own)], beyond[token % len(beyond)]] for token in range(4)])
    return {"all to the next rank": eight, "half of them": four}


@torch.inference_mode()
def main(group: Group) -> int:
    """Print a table on rank 0."""
    names = ["collective", "all_gather", *([] if "peer" in obstacles(group) else ["peer"])]
    routes = routes_of(even_split(EXPERTS, group.world_size), group.topology, group.rank)
    transport = Transport(group.collectives, EXPERTS)
    say = print if group.rank == 0 else lambda *_: None
    say(f"{group.world_size} ranks on {group.device}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}\n")
    say("| 8 rows of 8 KB | " + " | ".join(f"{name} us (min-max) | bytes" for name in names) + " |")
    say("|" + "---|" * (1 + 2 * len(names)))
    for title, ids_TK in next_door(group).items():
        cells = []
        for name in names:
            dispatch = transport.dispatch(name, routes)
            x_TD = torch.randn(len(ids_TK), WIDTH)
            trips, sent = timed_round_trips(group, dispatch, x_TD, ids_TK, repeats=REPEATS)
            cells.append(f"{trips.median:,.0f} ({trips.least:,.0f}-{trips.most:,.0f}) | {sent:,}")
        say(f"| {title} | " + " | ".join(cells) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(run_rank(main, LaunchOptions(device="cpu"), print))
