"""Whether a call goes to the kernels of ops/triton/: on a GPU for which Triton is installed, and without gradients."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from mixtralkit.log import get_logger, notice
from mixtralkit.ops.invariance import MayRequireGrad

_logger = get_logger(__name__)
_interpreting = False  # as `interpreting` has it


def triton_takes(x: torch.Tensor, *others: MayRequireGrad) -> bool:
    """Whether a call with the activations `x` goes to the Triton kernels."""
    if not (x.is_cuda or (_interpreting and x.is_cpu)):
        return False
    if torch.is_grad_enabled() and (x.requires_grad or any(other.requires_grad for other in others)):
        return False
    return available()


@cache
def available() -> bool:
    """Whether Triton is installed. Says so, once and on rank 0, when it is not."""
    if importlib.util.find_spec("triton") is None:
        notice(
            _logger, "no Triton, torch's operators are used on the GPU: install triton, in the version of torch's wheel"
        )
        return False
    return True


@contextmanager
def interpreting() -> Iterator[None]:
    """Have calls on the CPU go to the kernels too, in Triton's interpreter.

    That is slow, and for tests: TRITON_INTERPRET=1 must have been in the environment when Triton was imported.
    """
    global _interpreting
    _interpreting = True
    try:
        yield
    finally:
        _interpreting = False
