"""One measurement: the prefill of a prompt, or some decode steps of a batch."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from mixtralkit.bench.limits import Work, step_work
from mixtralkit.bench.machine_rates import synchronize
from mixtralkit.bench.random_requests import RandomRequests
from mixtralkit.bench.subject import Subject, weight_bytes
from mixtralkit.moe.dispatch.base import Dispatch

PROMPT = 32  # tokens that each request of a decode step has taken in
WARM_STEPS, STEPS = 3, 20


@dataclass(frozen=True)
class Case:
    """What is measured: `phase` is "prefill", of one prompt of `length` tokens, or "decode", of `requests` at a time.

    `dispatch` may be auto. The requests are those of all ranks together.
    """

    phase: str
    requests: int
    length: int
    dispatch: str

    @property
    def tokens(self) -> int:
        """The tokens that go through the model in a step."""
        return self.length if self.phase == "prefill" else self.requests


def prefill_case(length: int, dispatch: str) -> Case:
    """The prefill of one prompt of `length` tokens."""
    return Case("prefill", 1, length, dispatch)


def decode_case(requests: int, dispatch: str) -> Case:
    """Decode steps of `requests`."""
    return Case("decode", requests, PROMPT, dispatch)


@dataclass(frozen=True)
class Sample:
    """What one run of a case gave: seconds a step, of the slowest rank, and the work of a step on average."""

    seconds: float
    work: Work


class CaseRun:
    """Runs a case again and again; all ranks together."""

    def __init__(self, subject: Subject, case: Case) -> None:
        self.case = case
        self.subject = subject
        self.dispatch = subject.dispatch_for(case.dispatch, case.requests)
        self.steps = 1 if case.phase == "prefill" else STEPS
        self._first = 0 if case.phase == "prefill" else case.length + WARM_STEPS  # position of the first timed step
        self._requests = RandomRequests(subject, total=case.requests, context=case.length + WARM_STEPS + STEPS)

    @torch.inference_mode()
    def once(self, begin: Callable[[], None] = lambda: None, dispatch: Dispatch | None = None) -> Sample:
        """Run the case once; `begin` is called before the steps that count. `dispatch` may stand in for the case's.

        Decode steps are recorded ones where they can be, unless there is such a stand-in.
        """
        self.subject.use(dispatch or self.dispatch)
        self.subject.group.at(f"measuring {self.case.phase} of {self.case.tokens} tokens")
        if self.case.phase == "decode":
            if dispatch is None:
                self._requests.record()
            self._requests.run(self._requests.draw(self.case.length), 0)
            for step in range(WARM_STEPS):
                self._requests.run(self._requests.draw(1), self.case.length + step, recorded=dispatch is None)
        self.subject.group.control.all_gather_json(None)
        begin()
        length = self.case.length if self.case.phase == "prefill" else 1
        steps = [self._timed(length, self._first + step, recorded=dispatch is None) for step in range(self.steps)]
        return self._gather([seconds for seconds, _ in steps], [rows for _, rows in steps])

    @property
    def recorded(self) -> bool:
        """Whether its steps were CUDA graphs."""
        return self._requests.recorded

    def _timed(self, length: int, start: int, *, recorded: bool) -> tuple[float, torch.Tensor]:
        """Seconds of a step, and the rows that this rank's tokens gave to each expert of each layer."""
        tokens = self._requests.draw(length)
        before = self.subject.load.rows_LE
        started = time.perf_counter()
        self._requests.run(tokens, start, recorded=recorded)
        synchronize(self.subject.group.device)
        return time.perf_counter() - started, self.subject.load.rows_LE - before

    def _gather(self, seconds: list[float], rows_SLE: list[torch.Tensor]) -> Sample:
        mine = {"seconds": sum(seconds), "rows": torch.stack(rows_SLE).tolist()}
        ranks = self.subject.group.control.all_gather_json(mine)
        rows = torch.tensor([rank["rows"] for rank in ranks]).sum(0)
        touched = float((rows > 0).sum(-1).double().mean())
        return Sample(max(rank["seconds"] for rank in ranks) / self.steps, self._work(touched))

    def _work(self, touched: float) -> Work:
        # In decode, a step reads the keys of all positions up to its own: on average over the steps, half way.
        positions = self.case.length if self.case.phase == "prefill" else self._first + (self.steps + 1) / 2
        return step_work(
            self.subject.config,
            weight_bytes(self.subject),
            tokens=self.case.tokens,
            requests=self.case.requests,
            positions=self.case.requests * positions,
            touched=touched,
            busy_ranks=min(self.case.requests, self.subject.group.world_size),
        )
