"""Which dispatches cannot be used on these ranks, and why: what choose.py goes by."""

import sys

import torch

from mixtralkit.dist.launch import Group
from mixtralkit.moe.dispatch.cuda_peer_needs import why_not_cuda_peer
from mixtralkit.moe.dispatch.nccl_library import why_not_nccl
from mixtralkit.ops import library


def obstacles(group: Group) -> dict[str, str]:
    """By dispatch, the reason why it cannot be used, in words that fit behind "cannot be used".

    All ranks call this together, and all get the same: what one of them cannot do, none can.
    """
    found = group.control.all_gather_json(_own_obstacles(group))
    names = dict.fromkeys(name for own in found for name in own)
    return {name: common_reason([own.get(name) for own in found]) for name in names}


def common_reason(whys: list[str | None]) -> str:
    """The first of the ranks' reasons, at least one of which there is; with the rank's number where others differ."""
    rank, why = next((rank, why) for rank, why in enumerate(whys) if why is not None)
    return why if set(whys) == {why} else f"on rank {rank} {why}"


def why_not_peer(device: torch.device, num_nodes: int) -> str | None:
    """Why ranks on `device` of `num_nodes` hosts cannot use the dispatch peer; None when they can."""
    if device.type == "cuda":
        return why_not_cuda_peer(device, num_nodes)
    if sys.platform != "linux":
        return f"it needs Linux, and this is {sys.platform}"
    if num_nodes > 1:
        return f"it needs all ranks on one host, and they are on {num_nodes}"
    missing = library.why_not()
    return f"it needs the native kernels: {missing}" if missing else None


def _own_obstacles(group: Group) -> dict[str, str]:
    """As this rank sees it."""
    whys = {
        "peer": why_not_peer(group.device, group.topology.num_nodes),
        "nccl": why_not_nccl(group.device, len(group.topology.ranks_of_node(group.node))),
    }
    return {name: why for name, why in whys.items() if why is not None}
