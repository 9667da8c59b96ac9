"""The names of the dispatches, and the choice among them."""

import sys

import torch

from mixtralkit.errors import UsageError
from mixtralkit.ops import library

DISPATCH_NAMES = ("auto", "local", "collective", "all_gather", "peer")
SMALL_BATCH = 32  # tokens of all ranks in a decode step; from benchmarks/results/, measured over gloo


def why_not_peer(device: torch.device, num_nodes: int) -> str | None:
    """Why ranks on `device` of `num_nodes` hosts cannot use the dispatch peer; None when they can."""
    if device.type != "cpu":
        return f"it moves rows between CPUs, and this run is on {device.type}"
    if sys.platform != "linux":
        return f"it needs Linux, and this is {sys.platform}"
    if num_nodes > 1:
        return f"it needs all ranks on one host, and they are on {num_nodes}"
    missing = library.why_not()
    return f"it needs the native kernels: {missing}" if missing else None


def choose_dispatch(name: str, world_size: int, batch_size: int, peer_problem: str | None) -> tuple[str, str]:
    """The name of the dispatch to use and, in a few words, why.

    `batch_size` is how many requests a rank decodes at a time; `peer_problem` why peer cannot be used, if so. Raises
    `UsageError` for a name that does not exist or cannot work here.
    """
    if name not in DISPATCH_NAMES:
        raise UsageError(f"there is no dispatch {name!r}; choose one of {', '.join(DISPATCH_NAMES)}")
    if name == "local" and world_size > 1:
        raise UsageError(f"the dispatch 'local' needs all experts on one rank, but there are {world_size} ranks")
    if name == "peer" and peer_problem is not None:
        raise UsageError(f"the dispatch 'peer' cannot be used: {peer_problem}; leave the choice to --dispatch auto")
    if name != "auto":
        return name, "as asked"
    if world_size == 1:
        return "local", "all experts are on this rank"
    if peer_problem is None:
        return "peer", f"{world_size} ranks on one host: rows go through memory that they share"
    if batch_size * world_size <= SMALL_BATCH:
        return "all_gather", f"{world_size} ranks with batches of up to {batch_size}: few messages win"
    return "collective", f"{world_size} ranks with batches of up to {batch_size}: each row travels to its expert only"


def candidates(asked: str, chosen: str, num_nodes: int) -> tuple[str, ...]:
    """The dispatches among which each step may choose anew, if `asked` for became `chosen`: few messages are best for
    few tokens and slow links, and few bytes for many tokens.
    """
    several = asked == "auto" and num_nodes > 1
    return ("collective", "all_gather") if several else (chosen,)
