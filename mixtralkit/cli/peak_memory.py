"""How much memory this process has used."""

import resource
import sys

import torch


def peak_memory() -> int:
    """The most bytes that this process has had resident, mapped files included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_device_memory(device: torch.device) -> int | None:
    """The most bytes that torch has allocated on a GPU; None on the CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
