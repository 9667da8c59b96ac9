"""Whether the ranks of a host have room for their weights together; each loads as if it were alone."""

import socket

import torch

from mixtralkit.checkpoint.checkpoint_summary import Summary
from mixtralkit.checkpoint.memory_room import free_memory
from mixtralkit.dist.launch import Group
from mixtralkit.errors import LaunchError
from mixtralkit.sizes import size


def check_node_memory(group: Group, summary: Summary, dtype: torch.dtype | None) -> None:
    """Raise `LaunchError` with the numbers when this host cannot hold its ranks' weights in `dtype`, or quantized.

    Ask before any rank loads. On a CPU only converted weights count: those as they are in the files stay there, and are
    shared. A GPU has one rank, which asks for itself when it loads.
    """
    free = free_memory(group.device)
    if free is None or group.device.type != "cpu":
        return
    ranks = group.topology.ranks_of_node(group.node)
    stored = sum(summary.ranks[rank].nbytes for rank in ranks)
    needed, kind, advice = _converted(stored, summary, dtype)
    if needed > free:
        raise LaunchError(
            f"not enough memory on {socket.gethostname()}: the weights of its ranks ({len(ranks)}) take {size(needed)} "
            f"in {kind}, and {size(free)} are free; {advice}, which need not be copied, and more nodes share the "
            "experts further"
        )


def _converted(stored: int, summary: Summary, dtype: torch.dtype | None) -> tuple[int, str, str]:
    """How many bytes `stored` ones of the files become in memory of their own, as what, and how to do without."""
    if summary.quantized is not None:
        if summary.checkpoint.quantization is not None:
            return 0, "", ""  # the few that are not quantized may be converted; each rank asks for itself
        kind = summary.quantized.kind.value
        return stored, kind, f"'mixtralkit convert --quantize {kind}' writes files"
    if dtype is None or dtype == summary.dtype:
        return 0, "", ""
    name, own = (str(each).removeprefix("torch.") for each in (dtype, summary.dtype))
    return stored * dtype.itemsize // summary.dtype.itemsize, name, f"--dtype auto keeps the files' {own}"
