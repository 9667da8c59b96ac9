"""Where the time of a step goes, by kind of layer.

Looking costs time itself, so this is no part of other figures; and what on one rank is a single call is done in parts.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from mixtralkit.bench.case_run import CaseRun
from mixtralkit.bench.machine_rates import synchronize
from mixtralkit.model.transformer import Transformer
from mixtralkit.moe.dispatch.base import Dispatch, Handle
from mixtralkit.moe.routing import Routing
from mixtralkit.ops.expert_mlp import Counts

# Last part of a module's name -> the kind that its time is counted under. The norms before attention and head are
# part of these, the one before the experts is not.
KINDS = {
    "tok_embeddings": "embedding",
    "attention": "attention",
    "gate": "gate",
    "experts": "experts",
    "output": "head",
}


class Clock:
    """Adds up seconds by kind."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._device = device

    def now(self) -> float:
        """The time, once the device has done all that it was given."""
        synchronize(self._device)
        return time.perf_counter()

    def add(self, kind: str, started: float) -> None:
        """Count the time since `started` as `kind`."""
        self.seconds[kind] += self.now() - started


class TimedDispatch(Dispatch):
    """Another dispatch, with its two directions timed."""

    def __init__(self, dispatch: Dispatch, clock: Clock) -> None:
        self._dispatch, self._clock = dispatch, clock

    def dispatch(self, x_TD: torch.Tensor, routing: Routing) -> tuple[torch.Tensor, Counts, Handle]:
        """See `Dispatch`."""
        started = self._clock.now()
        result = self._dispatch.dispatch(x_TD, routing)
        self._clock.add("dispatch", started)
        return result

    def combine(self, rows_RD: torch.Tensor, handle: Handle) -> torch.Tensor:
        """See `Dispatch`."""
        started = self._clock.now()
        combined_TD = self._dispatch.combine(rows_RD, handle)
        self._clock.add("combine", started)
        return combined_TD


def layer_times(run: CaseRun) -> dict[str, Any]:
    """Milliseconds of a step by kind, as JSON, the mean over the ranks; "rest" is what belongs to no kind."""
    clock = Clock(run.subject.group.device)
    with _timed_modules(run.subject.model, clock):
        sample = run.once(clock.seconds.clear, TimedDispatch(run.dispatch, clock))
    ranks = run.subject.group.control.all_gather_json(dict(clock.seconds))
    kinds = {
        kind: sum(rank.get(kind, 0.0) for rank in ranks) / len(ranks) / run.steps * 1e3
        for kind in dict.fromkeys(kind for rank in ranks for kind in rank)
    }
    kinds["rest"] = max(0.0, sample.seconds * 1e3 - sum(kinds.values()))
    case = run.case
    facts = {
        "phase": case.phase,
        "requests": case.requests,
        "prompt_tokens": case.length,
        "dispatch": run.dispatch.name,
    }
    return {**facts, "milliseconds": kinds}


@contextmanager
def _timed_modules(model: Transformer, clock: Clock) -> Iterator[None]:
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            kind = KINDS.get(name.rpartition(".")[2])
            if kind is not None:
                timer = _Timer(kind, clock)
                hooks.callback(module.register_forward_pre_hook(timer.enter).remove)
                hooks.callback(module.register_forward_hook(timer.leave).remove)
        yield


class _Timer:
    """The two hooks of a module."""

    def __init__(self, kind: str, clock: Clock) -> None:
        self._kind, self._clock, self._started = kind, clock, 0.0

    def enter(self, module: nn.Module, inputs: Any) -> None:
        self._started = self._clock.now()

    def leave(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        self._clock.add(self._kind, self._started)
