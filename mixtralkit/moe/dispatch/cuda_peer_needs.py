"""Whether the GPUs of a run can write into each other's memory."""

import torch

from mixtralkit.ops import library


def why_not_cuda_peer(device: torch.device, num_nodes: int) -> str | None:
    """Why this rank's GPU, `device`, cannot use the dispatch peer with ranks on `num_nodes` hosts; None when it can.

    All GPUs that the process sees must be within reach. Where it sees its own only, opening the memory will tell.
    """
    if num_nodes > 1:
        return f"it needs all ranks on one host, and they are on {num_nodes}"
    missing = library.why_not(library.CUDA)
    if missing:
        return f"it needs the native kernels for GPUs: {missing}"
    own = device.index or 0
    others = (index for index in range(torch.cuda.device_count()) if index != own)
    far = next((index for index in others if not torch.cuda.can_device_access_peer(own, index)), None)
    return None if far is None else f"cuda:{own} cannot write into the memory of cuda:{far}"
