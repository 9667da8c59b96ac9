"""The engine of all ranks: rank 0 takes requests, plans steps and hands out what comes of them; all ranks run them."""

import time
from collections.abc import Callable, Sequence

import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.engine.decode_graphs import SPARE_BLOCKS
from mixtralkit.engine.desk import Desk
from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.engine.leader import Leader
from mixtralkit.engine.lockstep import Outcome, State, follow
from mixtralkit.engine.out_of_memory import is_out_of_memory
from mixtralkit.engine.output import OnOutput
from mixtralkit.engine.request import Completion, Request
from mixtralkit.engine.runner import Runner
from mixtralkit.engine.scheduler import Scheduler
from mixtralkit.engine.snapshot import Snapshot, StepFacts
from mixtralkit.engine.stats import GenerationStats
from mixtralkit.engine.step_plan import StepPlan, WorkResult
from mixtralkit.engine.vocabulary import Vocabulary
from mixtralkit.engine.warm_up import prepare_steps
from mixtralkit.engine.whole_responses import OnCompletion, OnText, WholeResponses
from mixtralkit.model.transformer import Transformer
from mixtralkit.tokenizer import Tokenizer

IDLE = "waiting for requests"


class Engine:
    """One model and one group of ranks, `control` being the exchanges of small host data between them.

    `context` is the most tokens that a request may have, and `kv_tokens` for how many all ranks have room together.
    `on_step` is told, before each step, what is about to run: it ends up in the message should a rank get stuck there.
    `before_step` is called on all ranks before each step that is not recorded, with the most tokens that each of them
    feeds to the model, and `after_step` at the end of each. `state` is asked about once a second for what this rank
    tells of itself, as JSON, and `on_facts` is told what each step did, on rank 0 in the engine's second thread.
    `changes` says what `before_step` may change in what a step computes, None where it is nothing: only then are decode
    steps on a GPU recorded as CUDA graphs. `prepares` has that done, and kernels compiled, before the first request,
    which takes seconds: not for an engine of one call.
    """

    def __init__(
        self,
        *,
        model: Transformer,
        tokenizer: Tokenizer,
        control: Collectives,
        limits: EngineLimits,
        on_step: Callable[[str], None] = lambda where: None,
        before_step: Callable[[Sequence[int]], None] = lambda tokens_W: None,
        after_step: Callable[[], None] = lambda: None,
        state: Callable[[], State] = dict,
        on_facts: Callable[[StepFacts], None] = lambda facts: None,
        changes: str | None = None,
        prepares: bool = True,
    ) -> None:
        num_blocks = limits.num_blocks(model.config.context)
        vocabulary = Vocabulary(tokenizer, model.config.vocab_size)
        self.stats = GenerationStats()
        self.grammars = vocabulary.grammars
        self.context = limits.most_context(model.config.context)
        self.kv_tokens = num_blocks * limits.block_size * control.size
        self._control = control
        self._on_step, self._before_step, self._after_step, self._state = on_step, before_step, after_step, state
        cache = model.new_cache(num_blocks + SPARE_BLOCKS, limits.block_size)
        graphs = (
            prepare_steps(model, cache, limits, context=self.context, changes=changes, control=control)
            if prepares
            else None
        )
        self._runner = Runner(
            *(model, cache, vocabulary),
            rank=control.rank,
            context=self.context,
            graphs=graphs,
            on_launched=lambda: self._leader.begin_planning(),
        )
        scheduler = Scheduler(
            world_size=control.size,
            num_blocks=num_blocks,
            block_size=limits.block_size,
            running_per_rank=limits.batch_size,
            step_tokens=limits.step_tokens,
            context=self.context,
            reuse_prefixes=limits.reuse_prefixes,
            drafts=limits.drafts,
        )
        self._desk = Desk(
            scheduler,
            tokenizer,
            vocabulary,
            context=model.config.context,
            room=self.context,
            places=limits.batch_size * control.size,
            max_waiting=limits.max_waiting,
            on_step=on_facts,
        )
        self._leader = Leader(self._desk, control, self._step, model.layers[-1])

    def check(self, request: Request) -> None:
        """On rank 0, from any thread: raise `RequestError` when the request cannot be served."""
        self._desk.check(request)

    def submit(self, request: Request, on_output: OnOutput, *, checked: bool = False) -> int:
        """On rank 0, from any thread: answer `request`; see `Desk.submit`."""
        return self._desk.submit(request, on_output, checked=checked)

    @property
    def full(self) -> bool:
        """On rank 0, from any thread: whether there is room for no further request."""
        return self._desk.full

    @property
    def failed(self) -> bool:
        """On rank 0, from any thread: whether a step has failed, so that no request is answered any more."""
        return self._desk.failed

    def cancel(self, number: int) -> None:
        """On rank 0, from any thread: end a request as it is."""
        self._desk.cancel(number)

    def stop(self, *, now: bool = False) -> None:
        """On rank 0, from any thread: have `run` return when all requests have ended, which `now` ends as they are."""
        self._desk.stop(now=now)

    def snapshot(self) -> Snapshot:
        """On rank 0, from any thread: how things stand."""
        return self._desk.snapshot()

    @torch.inference_mode()
    def run(self, interrupted: Callable[[], bool] = lambda: False) -> None:
        """Step until rank 0 is told to `stop`; all ranks call this together.

        `interrupted` is asked on rank 0 in every step: once it is true, this stops now. Raises what a step raises.
        """
        if self._control.rank == 0:
            self._leader.run(interrupted)
            return
        plan = follow(self._control, Outcome())
        while not plan.closing:
            plan = follow(self._control, self._step(plan))
        self._step(plan)

    def generate(
        self,
        requests: Sequence[Request],
        on_text: OnText | None = None,
        on_completion: OnCompletion | None = None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> list[Completion]:
        """Answer rank 0's `requests`; returns the completions on rank 0, in their order, and nothing elsewhere.

        All ranks must call this together; what the others pass is not looked at. `on_text(number, text)` is called as
        text comes and `on_completion(number, completion)` when a request has ended, in the engine's second thread.
        Once `interrupted`, the running requests end as they are and the waiting ones are left out.
        Raises `RequestError` before any work when a request cannot be served, and in the end when one has failed.
        """
        whole = WholeResponses(on_text, on_completion)
        if self._control.rank == 0:
            for request in requests:
                self.check(request)
            self._desk.reopen()
            whole.submit_all(requests, self._desk.submit)
            self._desk.stop()
        self.run(interrupted)
        return whole.completions()

    def _step(self, plan: StepPlan) -> Outcome:
        self._runner.prepare(plan)
        if plan.has_work:
            results: Sequence[WorkResult] = self._run(plan)
        else:
            self._on_step(IDLE)
            results = ()
        return Outcome(results, self._state() if plan.wants_state else None)

    def _run(self, plan: StepPlan) -> Sequence[WorkResult]:
        phase = self.stats.prefill if plan.feeds_prompts else self.stats.decode
        self._on_step(f"{'prefill' if plan.feeds_prompts else 'decode'} step {phase.steps + 1}")
        started = time.perf_counter()
        recorded = self._runner.has_recorded(plan)
        if not recorded:
            self._before_step(plan.tokens_W)
        results = self._run_mine(plan)
        seconds = time.perf_counter() - started
        self.stats.record(phase, tokens_W=plan.tokens_W, seconds=seconds, results=results, recorded=recorded)
        self._after_step()
        return results

    def _run_mine(self, plan: StepPlan) -> Sequence[WorkResult]:
        """Its own items. Alone a rank survives running out of memory; of several the others would wait for it."""
        try:
            return self._runner.run(plan)
        except (MemoryError, RuntimeError) as error:
            if self._control.size > 1 or not is_out_of_memory(error):
                raise
            return self._runner.give_up(plan.work[self._control.rank], "out of memory; send less at a time")
