"""What running out of memory looks like."""

import torch

_CPU_WORDS = "can't allocate memory"  # torch's allocator for the CPU raises a plain RuntimeError with these


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that there was no memory left, on the host or on a GPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or _CPU_WORDS in str(error)
