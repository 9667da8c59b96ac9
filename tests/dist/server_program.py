"""A rank of something like a server, for the tests of dist/: `python server_program.py [--option value ...]`.

It runs steps, in each of which rank 0 tells the others whether to go on. After the first stop signal that rank 0 hears,
it goes on for --drain seconds more and then ends in good order. --fault is what rank 1 does at step 20, --announce what
a rank does when it hears of the failure, besides saying so; with --busy, rank 0 is then in a step that takes long.
"""

import argparse
import os
import signal
import sys
import threading
import time

from mixtralkit.dist.launch import Group, LaunchOptions
from mixtralkit.dist.run_rank import run_rank

parser = argparse.ArgumentParser()
parser.add_argument("--drain", type=float, default=0.0)
parser.add_argument("--fault", choices=["none", "kill", "raise"], default="none")
parser.add_argument("--announce", choices=["quickly", "hang", "raise"], default="quickly")
parser.add_argument("--busy", action="store_true")
parser.add_argument("--timeout", type=float, default=30)
arguments = parser.parse_args()
stopping = threading.Event()
STEP = 0.05  # seconds
FAULT_AT = 20
CLOSE, GO_ON = b"close", b"go on"


def main(group: Group) -> int:
    print(f"rank {group.rank} of {group.world_size}", flush=True)
    told, step, end = GO_ON, 0, float("inf")
    while told != CLOSE:
        group.at(f"step {step}")
        if step == FAULT_AT:
            misbehave(group)
        time.sleep(STEP)
        if stopping.is_set():
            end = min(end, time.monotonic() + arguments.drain)
        told = group.control.trade_with_first(CLOSE if time.monotonic() >= end else GO_ON)[0]
        step += 1
    print(f"DRAINED {group.rank}", flush=True)
    return 0


def misbehave(group: Group) -> None:
    if group.rank == 0 and arguments.busy:
        time.sleep(60)
    if group.rank != 1 or arguments.fault == "none":
        return
    time.sleep(1.5)  # seconds: a beat of this rank and one of the others, so that they know where it is
    print(f"FAULT {time.time()}", flush=True)
    if arguments.fault == "raise":
        raise ValueError("the root cause")
    os.kill(os.getpid(), signal.SIGKILL)


def on_stop() -> None:
    print("STOPPING", flush=True)
    stopping.set()


def on_failure(words: str) -> None:
    print(f"ANNOUNCED {time.time()} {words}", flush=True)
    if arguments.announce == "hang":
        time.sleep(60)
    if arguments.announce == "raise":
        raise ConnectionError("the announcement cannot be made")


def report(text: str) -> None:
    print(f"REPORT {text}", file=sys.stderr, flush=True)


options = LaunchOptions(device="cpu", collective_timeout=arguments.timeout, join_timeout=30)
sys.exit(run_rank(main, options, report, on_stop=on_stop, on_failure=on_failure))
