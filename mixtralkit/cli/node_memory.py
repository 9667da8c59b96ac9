"""Whether the ranks of a host have room for their weights together; each loads as if it were alone."""

import socket

import torch

from mixtralkit.checkpoint.checkpoint_summary import Summary
from mixtralkit.checkpoint.memory_room import free_memory
from mixtralkit.cli.sizes import size
from mixtralkit.dist.launch import Group
from mixtralkit.errors import LaunchError


def check_node_memory(group: Group, summary: Summary, dtype: torch.dtype | None) -> None:
    """Raise `LaunchError` with the numbers when this host cannot hold its ranks' weights in `dtype`.

    Ask before any rank loads. On a CPU only converted weights count: those in the files' own dtype stay in the files,
    and are shared. A GPU has one rank, which asks for itself when it loads.
    """
    free = free_memory(group.device)
    if free is None or group.device.type != "cpu" or dtype is None or dtype == summary.dtype:
        return
    ranks = group.topology.ranks_of_node(group.node)
    stored = sum(summary.ranks[rank].nbytes for rank in ranks)
    needed = stored * dtype.itemsize // summary.dtype.itemsize
    if needed > free:
        kind, own = (str(name).removeprefix("torch.") for name in (dtype, summary.dtype))
        raise LaunchError(
            f"not enough memory on {socket.gethostname()}: the weights of its ranks ({len(ranks)}) take {size(needed)} "
            f"in {kind}, and {size(free)} are free; --dtype auto keeps the files' {own}, which need not be copied, and "
            "more nodes share the experts further"
        )
