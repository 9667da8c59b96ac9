"""The steps by which a list of requests becomes a list of completions."""

import time
from collections.abc import Callable, Sequence

from mixtralkit.dist.collectives import Collectives
from mixtralkit.engine.lockstep import share_tokens
from mixtralkit.engine.request import Completion, Request
from mixtralkit.engine.response import Response
from mixtralkit.engine.runner import Runner
from mixtralkit.engine.scheduler import Scheduler, Step
from mixtralkit.engine.stats import GenerationStats

OnText = Callable[[int, str], None]
OnCompletion = Callable[[int, Completion], None]


class Generation:
    """Every rank holds one, with the same requests, scheduler and responses; the runner holds what differs."""

    def __init__(
        self,
        *,
        requests: Sequence[Request],
        responses: Sequence[Response],
        scheduler: Scheduler,
        runner: Runner,
        control: Collectives,
        stats: GenerationStats,
        on_text: OnText | None,
        on_completion: OnCompletion | None,
        interrupted: Callable[[], bool],
    ) -> None:
        self._requests = requests
        self._responses = responses
        self._scheduler = scheduler
        self._runner = runner
        self._control = control
        self._stats = stats
        self._on_text = on_text
        self._on_completion = on_completion
        self._interrupted = interrupted
        self._completions: dict[int, Completion] = {}

    def completions(self) -> list[Completion]:
        """The completions so far, in the order of the requests."""
        return [self._completions[number] for number in sorted(self._completions)]

    def tokens_of_ranks(self, step: Step) -> list[int]:
        """How many tokens each rank feeds to the model in `step`: whole prompts, or one a request."""
        if not step.prefill:
            return [len(work) for work in step.work]
        return [sum(len(self._requests[number].prompt_tokens) for number in work) for work in step.work]

    def advance(self, step: Step, started: float) -> bool:
        """Run one step on all ranks, and take in the tokens it gave; returns whether to go on.

        `started` is when its preparation began (time.perf_counter()); it counts as part of the step.
        """
        mine = step.work[self._control.rank]
        if step.prefill:
            for number in mine:
                self._runner.admit(number, self._requests[number], self._scheduler.place(number).slot)
        new = self._runner.run(mine, self._requests)
        tokens, interrupted = share_tokens(self._control, step, new, interrupted=self._interrupted())
        fed_W = self.tokens_of_ranks(step)
        self._stats.record(prefill=step.prefill, tokens_W=fed_W, seconds=time.perf_counter() - started)
        for number, token in tokens.items():
            self._extend(number, token)
        if interrupted:
            for number in self._scheduler.running:
                self._show(number, self._responses[number].interrupt())
                self._retire(number)
        return not interrupted

    def _extend(self, number: int, token: int) -> None:
        response = self._responses[number]
        self._show(number, response.push(token))
        if response.finish_reason:
            self._retire(number)

    def _show(self, number: int, text: str) -> None:
        if text and self._on_text is not None and self._control.rank == 0:
            self._on_text(number, text)

    def _retire(self, number: int) -> None:
        place = self._scheduler.place(number)
        completion = self._completions[number] = self._responses[number].completion(place.rank)
        if self._on_completion is not None and self._control.rank == 0:
            self._on_completion(number, completion)
        self._scheduler.finish(number)
        if place.rank == self._control.rank:
            self._runner.release(number)
