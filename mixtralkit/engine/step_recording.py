"""Work on the device that is recorded once and repeated: a CUDA graph, where there is CUDA."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

Tensors: TypeAlias = Sequence[torch.Tensor]
Pool: TypeAlias = Any  # torch's handle: memory that graphs share which never run at the same time


def new_pool(device: torch.device) -> Pool | None:
    """Memory for graphs that run one at a time."""
    return torch.cuda.graph_pool_handle() if device.type == "cuda" else None


def recorded(step: Callable[[], Tensors], pool: Pool | None) -> Callable[[], Tensors]:
    """`step` as a function that gives the same tensors with new contents whenever it is called.

    `step` reads tensors that stay where they are, and must have run once before: what it compiles and allocates for
    good is there by then. On a GPU it is run once more, as a CUDA graph (and fails where it waits for the device), and
    never again; its results are overwritten by the next call of any graph of the `pool`. Without a pool, as on a CPU
    whose kernels are interpreted, it is `step` itself.
    """
    if pool is None:
        return step
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):  # other threads may talk to the GPU
        results = step()

    def replay() -> Tensors:
        graph.replay()
        return results

    return replay
