"""torch's process groups: which backend, over which network, with which time-out."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
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
        with _without_output():
            world = _open_world(store, env, device, timeout)
            cpu = device.type == "cpu"
            control = world if cpu else dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
    except RuntimeError as error:
        first_line = str(error).partition("\n")[0]
        raise LaunchError(
            f"rank {env.rank} on {socket.gethostname()} cannot connect to the other ranks: {first_line}; the nodes "
            f"need all ports open between them, on the network that GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME may name"
        ) from error
    return Collectives(world, device, timeout), Collectives(control, torch.device("cpu"), timeout)


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


@contextmanager
def _without_output() -> Iterator[None]:
    """Drop what is written to the standard output: gloo of torch 2.10 tells there that it is connected.

    The standard output is the user's, who may want JSON on it.
    """
    try:
        kept = os.dup(1)
    except OSError:  # it is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
