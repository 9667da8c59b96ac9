"""What all tests share: nothing from outside, one thread, the same random numbers each time."""

import os
import signal
from collections.abc import Iterator

# Before torch and transformers are imported: they read these once. Tests that start processes pass them on.
os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")

import pytest
import torch
from hypothesis import settings

from mixtralkit import log
from mixtralkit.env import launch_env
from mixtralkit.fastermoe_env import fastermoe_env
from mixtralkit.ops import triton_kernels

settings.register_profile("deterministic", derandomize=True, deadline=None, max_examples=50, database=None)
settings.load_profile("deterministic")

# A shell that runs the tests in the background has them ignore Ctrl-C, and with them whatever they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Read when Triton is imported, which torch's own import does not do.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

LAUNCH_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test starts as a process of its own that no launcher started, with the first random numbers."""
    for name in os.environ:
        if name in LAUNCH_VARIABLES or name.startswith(("TORCHELASTIC_", "FMOE_")):
            monkeypatch.delenv(name)
    launch_env.cache_clear()
    fastermoe_env.cache_clear()
    log._noticed.clear()  # what one test was told once, the next may be told again
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    launch_env.cache_clear()
    fastermoe_env.cache_clear()


@pytest.fixture
def device() -> torch.device:
    """Where the kernels of ops/triton/ run: on a GPU where there is one, else in Triton's interpreter."""
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
