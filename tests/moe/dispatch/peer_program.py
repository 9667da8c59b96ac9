"""A rank's program for the tests of faults: `python peer_program.py MODE RANK TIMEOUT [DISPATCH]`.

It runs steps of one dispatch and combine each, by peer or another one, for which two ranks are a node; in the fifth,
between the two, rank RANK does what MODE says.
"""

import logging
import os
import signal
import sys
import time

import torch

from mixtralkit.dist.launch import Group, LaunchOptions
from mixtralkit.dist.run_rank import run_rank
from mixtralkit.dist.topology import Topology
from mixtralkit.moe.dispatch.transport import Transport
from mixtralkit.moe.placement.plan import even_split
from mixtralkit.moe.placement.routes import routes_of
from mixtralkit.moe.routing import Routing

mode, rank, timeout = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
name = sys.argv[4] if len(sys.argv) > 4 else "peer"
BEATS = 1.5  # seconds: a beat of this rank and one of the others, so that they know where it is


def main(group: Group) -> int:
    topology = Topology(tuple(rank // 2 for rank in range(group.world_size)))
    routes = routes_of(even_split(4, group.world_size), topology, group.rank)
    dispatch = Transport(group.collectives, 4).dispatch(name, routes)
    routing = Routing(torch.tensor([[0, 3], [2, 1]]), torch.full((2, 2), 0.5))
    sys.stdout.write(f"rank {group.rank} has {sorted(os.listdir('/dev/shm'))}\n")
    sys.stdout.flush()
    for step in range(8):
        group.at(f"step {step}")
        rows, _, handle = dispatch.dispatch(torch.ones(2, 64), routing)
        if step == 5 and group.rank == rank:
            misbehave()
        dispatch.combine(rows, handle)
    return 0


def misbehave() -> None:
    time.sleep(BEATS)
    if mode == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if mode == "sleep":
        time.sleep(60)


def report(text: str) -> None:
    print(f"REPORT {text}", file=sys.stderr, flush=True)


logging.basicConfig(format="LOG %(message)s")
sys.exit(run_rank(main, LaunchOptions(device="cpu", collective_timeout=timeout), report))
