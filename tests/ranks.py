"""Runs a function on several real ranks: processes joined by gloo over loopback."""

import multiprocessing
import pickle
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from mixtralkit.dist.collectives import Collectives

SECONDS = 60
# What nearly all of these functions need, imported once: importing takes a rank longer than most of them take.
PRELOADED = ["pytest", "torch.distributed", "mixtralkit.parallelize", "mixtralkit.engine.engine"]


def run_ranks(world_size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """`function(collectives, *arguments)` on every rank; returns the results in the order of the ranks.

    The function must be importable by name. The tracebacks of ranks
    that fail are raised here together.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        pipes = [context.Pipe(duplex=False) for _ in range(world_size)]
        processes = [
            context.Process(target=_rank, args=(rank, world_size, folder, pipes[rank][1], function, arguments))
            for rank in range(world_size)
        ]
        for process in processes:
            process.start()
        try:
            results = [_receive(rank, pipe[0]) for rank, pipe in enumerate(pipes)]
        finally:
            for process in processes:
                process.join(timeout=1)
                process.kill()
    failures = [f"rank {rank} failed:\n{result}" for rank, (good, result) in enumerate(results) if not good]
    if failures:
        raise AssertionError("\n".join(failures))
    return [result for _, result in results]


def _receive(rank: int, pipe: Connection) -> tuple[bool, Any]:
    if not pipe.poll(SECONDS):
        return False, f"no result within {SECONDS} s"
    good, result = pickle.loads(pipe.recv_bytes())
    return good, result


def _rank(
    rank: int, world_size: int, folder: str, pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(Path(folder) / "store"), world_size)
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=world_size, timeout=timedelta(seconds=SECONDS / 2)
    )
    try:
        result = True, function(Collectives(dist.group.WORLD, torch.device("cpu")), *arguments)
    except Exception:  # noqa: BLE001 - whatever it is, the test shall see it
        result = False, traceback.format_exc()
    pipe.send_bytes(pickle.dumps(result))  # plain pickle copies tensors; the pipe's own would share their memory
    if result[0]:
        dist.barrier()
    dist.destroy_process_group()
