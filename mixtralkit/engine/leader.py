"""Rank 0's loop, in two threads.

The first runs the model and exchanges (engine/lockstep.py). The second takes the results of the step before, delivers
them, and makes the next plan once the step has come to its last layer: late enough for requests that have just come,
early enough to be ready when the step ends. A recorded step (engine/decode_graphs.py) has no layers on the host: there
it is when all of it has been given to the device. So a plan does not know the results of the step before it, and says
what to do whatever they are (engine/step_plan.py).
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from torch import nn

from mixtralkit.dist.collectives import Collectives
from mixtralkit.engine.desk import Desk
from mixtralkit.engine.lockstep import Outcome, lead
from mixtralkit.engine.second_thread import SecondThread
from mixtralkit.engine.step_plan import StepPlan


class Leader:
    """`step` runs this rank's share of a plan, through `last_layer` in the end where there is work."""

    def __init__(
        self, desk: Desk, control: Collectives, step: Callable[[StepPlan], Outcome], last_layer: nn.Module
    ) -> None:
        self._desk = desk
        self._control = control
        self._step = step
        self._last_layer = last_layer
        self._may_wait = True
        self._coming: Future[StepPlan] | None = None
        self._second: SecondThread | None = None

    def run(self, interrupted: Callable[[], bool]) -> None:
        """Step until the desk closes; once `interrupted`, it does so now."""
        with SecondThread("engine") as second:
            self._second = second
            hook = self._last_layer.register_forward_pre_hook(lambda *_: self.begin_planning())
            try:
                self._steps(second, interrupted)
            except BaseException:
                self._desk.fail("the engine has failed; its log tells why")
                raise
            finally:
                hook.remove()
                self._second = None

    def begin_planning(self) -> None:
        """Have the next plan made from now on, while the loop runs; once a step."""
        if self._second is not None and self._coming is None:
            self._coming = self._second.submit(partial(self._desk.plan, may_wait=self._may_wait))

    def _steps(self, second: SecondThread, interrupted: Callable[[], bool]) -> None:
        plan = self._next_plan()
        lead(self._control, plan, Outcome())
        taking: Future[None] | None = None
        while not plan.closing:
            if interrupted():
                self._desk.stop(now=True)
            started = time.perf_counter()
            self._may_wait = not plan.has_work
            mine = self._step(plan)
            coming = self._next_plan()
            if taking is not None:
                taking.result()  # it was done before `coming` was made; here its errors come out
            outcomes = lead(self._control, coming, mine)
            seconds = time.perf_counter() - started
            taking = second.submit(partial(self._desk.take, plan, outcomes, seconds))
            plan = coming
        if taking is not None:
            taking.result()
        outcome = self._step(plan)  # requests to be forgotten, and nothing else
        second.submit(partial(self._desk.take, plan, [outcome], 0.0)).result()

    def _next_plan(self) -> StepPlan:
        self.begin_planning()
        assert self._coming is not None
        coming, self._coming = self._coming, None
        return coming.result()
