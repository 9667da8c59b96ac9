"""How fast this machine reads memory and multiplies matrices, with the threads that the ranks have, all at once.

Rates drift while a machine runs, on shared ones by a factor of two. So they are measured again around every measurement
that is compared with them.
"""

import time
from collections.abc import Callable, Collection

import torch

from mixtralkit.bench.limits import Rates
from mixtralkit.checkpoint.memory_room import free_memory
from mixtralkit.dist.launch import Group

BUFFER = 1 << 30  # bytes that all ranks of a host read together; caches of a host have up to some hundred MB
SHARE_OF_FREE = 4  # of the free memory at most one part in this many is taken
SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices that are multiplied; smaller ones are slower
PASSES = 2  # the faster one counts: the first may find cold caches and sleeping threads


class MachineRates:
    """Measures the rates of all ranks together; all of them call `measure` at the same time.

    Memory is read by torch's sum of int64, on a CPU the fastest of torch's reductions and faster than a plain loop of
    wide loads (docs/benchmarks.md). Products are torch's, in float32, bfloat16 and int8.
    """

    def __init__(self, group: Group) -> None:
        self._group = group
        self._device = group.device
        local_ranks = len(group.topology.ranks_of_node(group.node)) if group.device.type == "cpu" else 1
        free = free_memory(group.device)
        nbytes = (BUFFER if free is None else min(BUFFER, free // SHARE_OF_FREE)) // local_ranks
        self._buffer = torch.ones(max(1, nbytes // 8), dtype=torch.int64, device=group.device)
        self._side = SIDE.get(group.device.type, SIDE["cpu"])
        wide = torch.randn(self._side, self._side, device=group.device)
        short, whole = wide.bfloat16(), (10 * wide).to(torch.int8)
        self._products: dict[str, Callable[[], object]] = {
            "float32": lambda: wide @ wide.T,
            "bfloat16": lambda: short @ short.T,
            "int8": lambda: torch._int_mm(whole, whole.T),
        }

    @torch.inference_mode()
    def measure(self) -> dict[str, float]:
        """Bytes a second as "read", and operations a second as "float32", "bfloat16" and "int8"."""
        operations = 2.0 * self._side**3
        mine = {"read": self._buffer.nbytes / self._fastest(self._buffer.sum)}
        mine |= {name: operations / self._fastest(product) for name, product in self._products.items()}
        ranks = self._group.control.all_gather_json(mine)
        return {name: sum(rank[name] for rank in ranks) for name in mine}

    def _fastest(self, run: Callable[[], object]) -> float:
        """Seconds of the fastest of some passes, which all ranks begin together."""
        self._group.control.all_gather_json(None)
        times = []
        for _ in range(PASSES):
            started = time.perf_counter()
            run()
            synchronize(self._device)
            times.append(time.perf_counter() - started)
        return min(times)


def rates_of(measured: dict[str, float], dtypes: Collection[torch.dtype]) -> Rates:
    """What limits a model with weights of these `dtypes`: the narrowest may be widened, but not the other way round."""
    names = ["float32"]
    if any(dtype.itemsize <= 2 for dtype in dtypes):
        names.append("bfloat16")
    if any(dtype.itemsize == 1 for dtype in dtypes):
        names.append("int8")
    return Rates(measured["read"], max(measured[name] for name in names))


def synchronize(device: torch.device) -> None:
    """Wait until `device` has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
