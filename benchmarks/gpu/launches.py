"""The launches of a call's kernels, kept so that they can be timed again without the rest of the call."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
import triton

_THREADS = 8  # that compile; most of the time they are in ptxas


@dataclass(frozen=True)
class Call:
    """A call as a model of these sizes makes it, and which kernels of `module` are timed: none means all of the call.

    `nbytes` and `operations` are what no way of computing it can do without.
    """

    title: str
    run: Callable[[], torch.Tensor]
    module: ModuleType
    kernels: Sequence[str]
    nbytes: float
    operations: float


@dataclass
class Recorder:
    """Stands for a kernel in its module. With `only_compiled` nothing is launched."""

    kernel: Any
    only_compiled: bool = False
    again: list[Callable[[], object]] = field(default_factory=list)
    compiled: list[Any] = field(default_factory=list)

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*args: Any, **options: Any) -> None:
            if self.only_compiled:
                self.kernel.warmup(*args, grid=grid, **options)
                return
            self.compiled.append(self.kernel[grid](*args, **options))
            self.again.append(lambda: self.kernel[grid](*args, **options))

        return launch


@contextmanager
def recorders(call: Call, *, only_compiled: bool = False) -> Iterator[list[Recorder]]:
    """Have the kernels of a call recorded."""
    originals = {name: getattr(call.module, name) for name in call.kernels}
    made = {name: Recorder(kernel, only_compiled) for name, kernel in originals.items()}
    try:
        for name, recorder in made.items():
            setattr(call.module, name, recorder)
        yield list(made.values())
    finally:
        for name, kernel in originals.items():
            setattr(call.module, name, kernel)


def run_recorded(call: Call) -> tuple[torch.Tensor, Callable[[], object], list[Any]]:
    """The result of a call, what does its timed kernels again, and what Triton has compiled for them."""
    with recorders(call) as made:
        result = call.run()
    again = [launch for recorder in made for launch in recorder.again]
    compiled = [kernel for recorder in made for kernel in recorder.compiled if kernel is not None]
    return result, (lambda: [launch() for launch in again]) if again else call.run, compiled


@contextmanager
def compiling() -> Iterator[None]:
    """Have what is compiled in this context be compiled side by side; it is ready at the end.

    What does not compile says so when it is launched.
    """
    with ThreadPoolExecutor(_THREADS) as threads, triton.AsyncCompileMode(threads, ignore_errors=True):
        yield
