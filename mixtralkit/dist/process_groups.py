"""torch's process groups: which backend, over which network, with which time-out."""

import socket
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import Store

from mixtralkit.dist.address import interface_towards
from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology
from mixtralkit.env import LaunchEnv, choose_gloo_interface
from mixtralkit.errors import LaunchError

_NCCL_EXTRA = 10.0  # NCCL kills the process at its time-out, so the watchdog must have spoken before


def open_process_groups(
    store: Store, env: LaunchEnv, device: torch.device, topology: Topology, timeout: float
) -> tuple[Collectives, Collectives]:
    """The groups for tensors and for host data; on the CPU both are the same gloo group.

    Raises `LaunchError` when the ranks cannot connect to each other.
    """
    towards_others = "127.0.0.1" if topology.num_nodes == 1 else env.master_addr
    if towards_others and (interface := interface_towards(towards_others)):
        choose_gloo_interface(interface)
    try:
        world = _open_world(store, env, device, timeout)
        if device.type == "cpu":
            return Collectives(world, device), Collectives(world, device)
        control = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
        return Collectives(world, device), Collectives(control, torch.device("cpu"))
    except RuntimeError as error:
        first_line = str(error).partition("\n")[0]
        raise LaunchError(
            f"rank {env.rank} on {socket.gethostname()} cannot connect to the other ranks: {first_line}; the nodes "
            f"need all ports open between them, on the network that GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME may name"
        ) from error


def _open_world(store: Store, env: LaunchEnv, device: torch.device, timeout: float) -> dist.ProcessGroup | None:
    cpu = device.type == "cpu"
    dist.init_process_group(
        "gloo" if cpu else "nccl",
        store=store,
        rank=env.rank,
        world_size=env.world_size,
        timeout=timedelta(seconds=timeout if cpu else timeout + _NCCL_EXTRA),
        device_id=None if cpu else device,
    )
    return dist.group.WORLD
