"""Tells the errors that collectives raise when another rank is gone or late from all other errors."""

from pathlib import Path
from types import TracebackType

import torch.distributed as dist

from mixtralkit.errors import RankFailure

_TORCH = str(Path(dist.__file__).parent)
_OURS = str(Path(__file__).with_name("collectives.py"))


class LateRank(RankFailure):
    """Another rank has not done its part of an exchange within the time-out."""


class BrokenExchange(RankFailure):
    """What carries the rows has failed, in its own words; another rank may be the cause."""


def is_collective_error(error: BaseException) -> bool:
    """Whether `error` was raised inside a collective or by the store.

    Most have no type of their own: gloo raises RuntimeError. So the place where it was raised decides.
    """
    if isinstance(error, LateRank | BrokenExchange):
        return True
    if not isinstance(error, RuntimeError):
        return False
    return isinstance(error, dist.DistError) or _passes_through_collectives(error.__traceback__)


def _passes_through_collectives(trace: TracebackType | None) -> bool:
    while trace is not None:
        filename = trace.tb_frame.f_code.co_filename
        if filename == _OURS or filename.startswith(_TORCH):
            return True
        trace = trace.tb_next
    return False
