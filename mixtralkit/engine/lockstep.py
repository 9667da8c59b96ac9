"""The one exchange of a step: rank 0 tells the next plan while the others tell it the results of the last one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mixtralkit.dist.collectives import Collectives
from mixtralkit.engine.step_plan import StepPlan, WorkResult, results_from_bytes, results_to_bytes

State = dict[str, Any]  # what a rank tells of itself, as JSON
_LENGTH_BYTES = 4


@dataclass(frozen=True)
class Outcome:
    """What came of a rank's share of a step; `state` is None where the plan did not ask for it."""

    results: Sequence[WorkResult] = ()
    state: State | None = None

    def to_bytes(self) -> bytes:
        """The outcome: how long the results are, the results, the state."""
        results = results_to_bytes(self.results)
        state = b"" if self.state is None else json.dumps(self.state).encode()
        return len(results).to_bytes(_LENGTH_BYTES, "big") + results + state

    @staticmethod
    def from_bytes(data: bytes) -> "Outcome":
        """The outcome that `to_bytes` gave."""
        end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "big")
        return Outcome(results_from_bytes(data[_LENGTH_BYTES:end]), json.loads(data[end:]) if data[end:] else None)


def lead(control: Collectives, plan: StepPlan, mine: Outcome) -> list[Outcome]:
    """On rank 0: tell `plan`; returns all ranks' outcomes, `mine` first."""
    if control.size == 1:
        return [mine]
    _, *others = control.trade_with_first(plan.to_bytes())
    return [mine, *(Outcome.from_bytes(other) for other in others)]


def follow(control: Collectives, mine: Outcome) -> StepPlan:
    """On the other ranks: tell `mine`; returns the next plan."""
    (told,) = control.trade_with_first(mine.to_bytes())
    return StepPlan.from_bytes(told)
