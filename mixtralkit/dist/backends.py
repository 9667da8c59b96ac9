"""Which of torch's communication backends this build has, and the network that they would use."""

import socket

import torch.distributed as dist


def available_backends() -> dict[str, bool]:
    """Whether torch was built with gloo, for CPUs, and NCCL, for GPUs."""
    if not dist.is_available():
        return {"gloo": False, "nccl": False}
    return {"gloo": dist.is_gloo_available(), "nccl": dist.is_nccl_available()}


def network_interfaces() -> list[str]:
    """The names of this host's network interfaces."""
    return [name for _, name in socket.if_nameindex()]


def host_name_problem() -> str | None:
    """Why other nodes may not find this one by its name; None when the name can be looked up."""
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError as error:
        return f"{name} cannot be looked up here ({error.strerror}); give --master-addr as a number"
    if address.startswith("127."):
        return f"{name} is {address} here, which other nodes cannot reach; give --master-addr as a number"
    return None
