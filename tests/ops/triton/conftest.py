"""The kernels of ops/triton/ on a GPU where there is one, and otherwise in Triton's interpreter on the CPU."""

from collections.abc import Iterator

import pytest
import torch

from mixtralkit.ops import triton_kernels


@pytest.fixture
def device() -> torch.device:
    """Where the kernels run."""
    pytest.importorskip("triton")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def kernels(device: torch.device) -> Iterator[torch.device]:
    """Where ops go to the kernels, for the time of a test."""
    if device.type == "cuda":
        yield device
        return
    with triton_kernels.interpreting():
        yield device
