"""What `doctor` sees of this machine through torch."""

import os
import platform
from collections.abc import Iterator

import torch

from mixtralkit.checkpoint.memory_room import free_memory
from mixtralkit.cli.findings import Finding
from mixtralkit.dist.backends import available_backends, host_name_problem, network_interfaces
from mixtralkit.moe.dispatch.nccl_library import nccl_facts, why_not_library
from mixtralkit.ops import library
from mixtralkit.sizes import size


def processor() -> Iterator[Finding]:
    """Cores, instructions and memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    capability = torch.backends.cpu.get_cpu_capability()
    yield Finding("cores", "ok", f"{cores} of {os.cpu_count()}, {platform.machine()}, {capability}")
    free = free_memory(torch.device("cpu"))
    yield Finding("memory", "ok", "unknown" if free is None else f"{size(free)} free")


def native_kernels() -> Iterator[Finding]:
    """Whether the compiled extension is there and which variant runs on this processor, or why torch does the work."""
    problem = library.why_not()
    words = (
        f"none, torch's operators are used: {problem}"
        if problem
        else f"variant {library.variant()}, the best for this processor"
    )
    yield Finding("native kernels", "no" if problem else "ok", words)


def gpus() -> Iterator[Finding]:
    """Each GPU, or why there is none."""
    if not torch.cuda.is_available():
        built = f"torch is built for CUDA {torch.version.cuda}, but finds no GPU or driver"
        yield Finding("GPU", "no", built if torch.version.cuda else "this torch is built without CUDA")
        return
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        free = size(free_memory(torch.device("cuda", index)) or 0)
        kind = f"{facts.name}, compute capability {facts.major}.{facts.minor}"
        yield Finding(f"cuda:{index}", "ok", f"{kind}, {free} of {size(facts.total_memory)} free")


def communication() -> Iterator[Finding]:
    """What ranks could talk through."""
    uses = {"gloo": "ranks on CPUs", "nccl": "ranks on GPUs"}
    for name, there in available_backends().items():
        yield Finding(name, "ok" if there else "no", uses[name] if there else f"not in this torch: no {uses[name]}")
    yield exchange_between_gpus()
    yield nccl_operators()
    problem = host_name_problem()
    yield Finding("host name", "no" if problem else "ok", problem or platform.node())
    yield Finding("interfaces", "ok", ", ".join(network_interfaces()))


def exchange_between_gpus() -> Finding:
    """Whether the dispatch peer has kernels for GPUs; on CPUs it needs the native kernels alone."""
    problem = library.why_not(library.CUDA)
    return Finding("peer on GPUs", "no" if problem else "ok", problem or "kernels that write into other GPUs' memory")


def nccl_operators() -> Finding:
    """What the dispatch nccl would use: the versions of NCCL's header and library and of torch's, and whose file."""
    if (problem := why_not_library()) is not None:
        return Finding("dispatch nccl", "no", problem)
    facts = nccl_facts()
    of_torch = "torch has none loaded" if facts.torch is None else "torch has the same"
    return Finding(
        "dispatch nccl",
        "ok",
        f"NCCL {facts.found} at {facts.path}, called as its header {facts.header} says; {of_torch}",
    )
