"""A rank's program for the tests of dist/: `python program.py MODE [RANK] [--option value ...]`.

It runs steps of one collective each; before the fifth, or after it where that is the last, rank RANK does what MODE
says; "die-opening" dies before there are process groups. Options: --timeout and --join-timeout in seconds, --steps,
--belief (only rank RANK holds it).
"""

import argparse
import logging
import os
import signal
import sys
import time

import torch

from mixtralkit.dist import launch
from mixtralkit.dist.launch import Group, LaunchOptions
from mixtralkit.dist.run_rank import run_rank
from mixtralkit.env import launch_env
from mixtralkit.errors import CheckpointError

parser = argparse.ArgumentParser()
parser.add_argument("mode")
parser.add_argument("rank", type=int, nargs="?", default=0)
parser.add_argument("--timeout", type=float, default=30)
parser.add_argument("--join-timeout", type=float, default=30)
parser.add_argument("--steps", type=int, default=8)
parser.add_argument("--belief", default="common")
arguments = parser.parse_args()
BEATS = 1.5  # seconds: a beat of this rank and one of the others, so that they know where it is


def main(group: Group) -> int:
    print(
        f"rank {group.rank} of {group.world_size}, local {group.local_rank} on node {group.node}, {group.device}, "
        f"threads {torch.get_num_threads()}",
        flush=True,
    )
    for step in range(arguments.steps):
        group.at(f"step {step}")
        if step == 5:
            misbehave(group)
        ranks = group.collectives.all_gather(torch.tensor([group.rank]))
        if ranks.flatten().tolist() != list(range(group.world_size)):
            return 3
        time.sleep(0.05)
    if arguments.steps == 5:
        misbehave(group)
    return 0


def misbehave(group: Group) -> None:
    if group.rank != arguments.rank and arguments.mode != "all-user-error":
        return
    if arguments.mode == "raise":
        raise ValueError("the root cause")
    if arguments.mode in ("user-error", "all-user-error"):
        raise CheckpointError("part 3 is missing")
    if arguments.mode == "kill":
        time.sleep(BEATS)
        os.kill(os.getpid(), signal.SIGKILL)
    if arguments.mode == "stop":
        time.sleep(BEATS)
        os.kill(os.getpid(), signal.SIGSTOP)
    if arguments.mode == "sleep":
        time.sleep(60)


def report(text: str) -> None:
    print(f"REPORT {text}", file=sys.stderr, flush=True)


logging.basicConfig(format="LOG %(message)s")
differs = launch_env().rank == arguments.rank
if arguments.mode == "die-opening" and differs:
    launch.open_process_groups = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
options = LaunchOptions(
    device="cpu",
    collective_timeout=arguments.timeout,
    join_timeout=arguments.join_timeout,
    beliefs={"--belief": arguments.belief if differs else "common"},
)
sys.exit(run_rank(main, options, report))
