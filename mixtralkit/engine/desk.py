"""Rank 0's front desk: requests come in from any thread, plans go to the ranks, and what comes of them goes out.

`submit`, `cancel`, `stop`, `fail` and `snapshot` may be called from any thread; `plan` and `take` only from the
engine's second thread, which alone touches the scheduler and the responses.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mixtralkit.engine.lockstep import Outcome, State
from mixtralkit.engine.output import OnOutput
from mixtralkit.engine.request import EngineClosed, FinishReason, QueueFull, Request
from mixtralkit.engine.response import Response
from mixtralkit.engine.scheduler import Scheduler
from mixtralkit.engine.snapshot import Snapshot, StepFacts
from mixtralkit.engine.step_plan import StepPlan, WorkResult
from mixtralkit.engine.ticket import Ticket
from mixtralkit.engine.vocabulary import Vocabulary
from mixtralkit.tokenizer import Tokenizer

TICK = 1.0  # seconds between two plans while there is nothing to do: far below any time-out of the other ranks
STATE_INTERVAL = 1.0  # seconds between two times that the ranks tell their state


@dataclass
class _News:
    """What has come in since the last plan."""

    arrivals: list[int] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)


class Desk:
    """`context` is the model's, `room` the most tokens a request may have.

    `places` is how many requests run at a time on all ranks. Beyond these, `max_waiting` may wait (None: any number).
    Every step is told to `on_step`.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        tokenizer: Tokenizer,
        vocabulary: Vocabulary,
        *,
        context: int,
        room: int,
        places: int,
        max_waiting: int | None,
        on_step: Callable[[StepFacts], None] = lambda facts: None,
    ) -> None:
        self._scheduler = scheduler
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._context = context
        self._room = room
        self._most = None if max_waiting is None else places + max_waiting
        self._on_step = on_step
        self._tickets: dict[int, Ticket] = {}
        self._next_number = 0
        self._news = _News()
        self._changed = threading.Condition()
        self._closing = False
        self._failed: str | None = None
        self._states: tuple[State, ...] = ()
        self._states_due = 0.0
        self._steps = 0
        self._queue_seconds: list[float] = []
        self._last_step = time.monotonic()
        self._last_seconds = 0.0

    def check(self, request: Request) -> None:
        """Raise `RequestError` when the request cannot be served."""
        request.check(self._vocabulary.size, self._context, self._room)
        if request.params.grammar is not None:
            self._vocabulary.grammars.check(request.params.grammar)

    def submit(self, request: Request, on_output: OnOutput, *, checked: bool = False) -> int:
        """Take in a request; returns its number. `on_output` is called in the engine's thread and must be quick.

        One that has been `checked` is taken in at once, whatever its grammar. Raises `RequestError` when the request
        cannot be served, `QueueFull` when too many wait already, and `EngineClosed` after `stop` or a failure.
        """
        if not checked:
            self.check(request)
        response = Response(request.params, self._tokenizer, continues=request.continues)
        ticket = Ticket(request, response, on_output)
        with self._changed:
            if self._failed is not None or self._closing:
                raise EngineClosed(self._failed or "the engine takes no requests any more")
            if self.full:
                raise QueueFull(len(self._tickets))
            number, self._next_number = self._next_number, self._next_number + 1
            self._tickets[number] = ticket
            self._news.arrivals.append(number)
            self._changed.notify()
        return number

    @property
    def full(self) -> bool:
        """Whether there is room for no further request."""
        return self._most is not None and len(self._tickets) >= self._most

    @property
    def failed(self) -> bool:
        """Whether `fail` was called."""
        return self._failed is not None

    def cancel(self, number: int) -> None:
        """End a request as it is, in the next step; without effect where it has ended."""
        with self._changed:
            self._news.cancelled.append(number)
            self._changed.notify()

    def stop(self, *, now: bool = False) -> None:
        """Take no more requests, and have the engine's loop end when all have ended; `now` ends them as they are."""
        with self._changed:
            self._closing = True
            if now:
                self._news.cancelled += self._tickets
            self._changed.notify()

    def reopen(self) -> None:
        """Take requests again, for another loop that goes on until `stop` is called."""
        with self._changed:
            self._closing = False

    def fail(self, error: str) -> None:
        """End all requests with an error, and take no more: the ranks cannot go on."""
        with self._changed:
            self._failed = error
            numbers = list(self._tickets)
        for number in numbers:
            self._end(number, "error", error)

    def plan(self, *, may_wait: bool) -> StepPlan:
        """The next step. With `may_wait`, wait for news if there is nothing to do, but no longer than `TICK`."""
        self._take_news(may_wait)
        plan = self._scheduler.plan()
        for admission in plan.admissions:
            ticket = self._tickets[admission.number]
            if ticket.rank is None:  # not preempted before
                self._queue_seconds.append(time.monotonic() - ticket.arrived)
            ticket.rank = admission.rank
        now = time.monotonic()
        wants_state = now >= self._states_due
        if wants_state:
            self._states_due = now + STATE_INTERVAL
        closing = self._closing and not self._tickets
        return replace(plan, closing=closing, wants_state=wants_state) if closing or wants_state else plan

    def take(self, plan: StepPlan, outcomes: Sequence[Outcome], seconds: float) -> None:
        """Take what the ranks made of `plan`, which took so many seconds, and tell it to whom it concerns."""
        results = [result for outcome in outcomes for result in outcome.results]
        for result in self._scheduler.take(results):
            if result.number in self._tickets:
                self._tell(result, self._tickets[result.number])
        if plan.wants_state:
            self._states = tuple(outcome.state or {} for outcome in outcomes)
        self._last_step = time.monotonic()
        if plan.has_work:
            self._steps += 1
            self._last_seconds = seconds
            waited, self._queue_seconds = tuple(self._queue_seconds), []
            self._on_step(StepFacts(seconds, plan.tokens_W, results=tuple(results), queue_seconds=waited))

    def snapshot(self) -> Snapshot:
        """How things stand."""
        scheduler = self._scheduler
        return Snapshot(
            running=scheduler.running,
            waiting=scheduler.waiting,
            kv_usage=scheduler.kv_usage,
            preemptions=scheduler.preemptions,
            prefix_queries=scheduler.prefix_queries,
            prefix_hits=scheduler.prefix_hits,
            steps=self._steps,
            last_step_seconds=self._last_seconds,
            seconds_since_step=time.monotonic() - self._last_step,
            states=self._states,
        )

    def _take_news(self, may_wait: bool) -> None:
        with self._changed:
            idle = not (self._tickets or self._closing)
            if may_wait and idle and not (self._news.arrivals or self._news.cancelled):
                self._changed.wait(TICK)
            news, self._news = self._news, _News()
        for number in news.arrivals:
            if number not in self._tickets:
                continue  # `fail` was first
            request = self._tickets[number].request
            self._scheduler.add(
                number,
                request.prompt_tokens,
                request.params,
                priority=request.priority,
                keep_whole_prompt=request.params.prompt_logprobs is not None,
            )
        for number in news.cancelled:
            self._scheduler.cancel(number)
            self._end(number, "interrupted")

    def _tell(self, result: WorkResult, ticket: Ticket) -> None:
        ticket.cached = self._scheduler.cached_tokens(result.number)
        if result.error is not None:
            self._end(result.number, "error", result.error, refused=result.refused)
            return
        scores = ticket.new_scores(result)
        text, taken = ticket.response.push(result.tokens, result.finish)
        if ticket.response.finish_reason:  # before it is told: who hears of the end finds the place free
            if not result.finish:
                self._scheduler.cancel(result.number)
            self._tickets.pop(result.number, None)  # unless `fail` was first
        if result.tokens or scores:
            output = ticket.output(result.number, text)
            tokens, logprobs = result.tokens[:taken], result.logprobs[:taken]
            ticket.on_output(replace(output, tokens=tokens, logprobs=logprobs, prompt_logprobs=scores))

    def _end(self, number: int, reason: FinishReason, error: str | None = None, *, refused: bool = False) -> None:
        ticket = self._tickets.pop(number, None)
        if ticket is not None:
            output = ticket.output(number, ticket.response.end(reason))
            ticket.on_output(replace(output, error=error, refused=refused))
