"""Generation over all ranks: requests are spread over them, and all step together until the last has finished."""

import time
from collections.abc import Callable, Sequence

import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.engine.generation import Generation, OnCompletion, OnText
from mixtralkit.engine.lockstep import share_requests
from mixtralkit.engine.request import Completion, Request
from mixtralkit.engine.response import Response
from mixtralkit.engine.runner import Runner
from mixtralkit.engine.scheduler import Scheduler
from mixtralkit.engine.stats import GenerationStats
from mixtralkit.errors import UsageError
from mixtralkit.model.transformer import Transformer
from mixtralkit.tokenizer import Tokenizer

PREFILL_TOKENS = 4096


class Engine:
    """One model and one group of ranks, `control` being the exchanges of small host data between them.

    `batch_size` is how many requests each rank works on at a time. `on_step` is told, before each step, what is about
    to run: it ends up in the message should a rank get stuck there. `before_step` is called on all ranks before each
    step, with the number of tokens that each of them feeds to the model, and `after_step` at its end.
    """

    def __init__(
        self,
        *,
        model: Transformer,
        tokenizer: Tokenizer,
        control: Collectives,
        batch_size: int,
        on_step: Callable[[str], None] = lambda where: None,
        before_step: Callable[[Sequence[int]], None] = lambda tokens_W: None,
        after_step: Callable[[], None] = lambda: None,
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"the batch size is {batch_size}; it must be at least 1")
        self._model = model
        self._tokenizer = tokenizer
        self._control = control
        self._batch_size = batch_size
        self._on_step = on_step
        self._before_step = before_step
        self._after_step = after_step
        self.stats = GenerationStats()

    @torch.inference_mode()
    def generate(
        self,
        requests: Sequence[Request],
        on_text: OnText | None = None,
        on_completion: OnCompletion | None = None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> list[Completion]:
        """Answer rank 0's `requests`, in their order; all ranks must call this together.

        `on_text(number, text)` is called on rank 0 as text comes, and `on_completion(number, completion)` when a
        request has finished. The completions' texts are to be used on rank 0 only; everything else is on every rank.
        `interrupted` is asked on rank 0 in every step: once it is true, the running requests end as they are and the
        waiting ones are left out. Raises `RequestError` before any work when a request cannot be served.
        """
        requests = share_requests(self._control, requests)
        for request in requests:
            request.check(self._model.config.vocab_size, self._model.config.context)
        if not requests:
            return []
        slots = min(self._batch_size, -(-len(requests) // self._control.size))
        scheduler = Scheduler(
            [len(request.prompt_tokens) for request in requests],
            world_size=self._control.size,
            slots_per_rank=slots,
            prefill_tokens=PREFILL_TOKENS,
        )
        generation = self._generation(requests, scheduler, slots, on_text, on_completion, interrupted)
        while step := scheduler.next_step():
            phase = self.stats.prefill if step.prefill else self.stats.decode
            self._on_step(f"{'prefill' if step.prefill else 'decode'} step {phase.steps + 1}")
            started = time.perf_counter()
            self._before_step(generation.tokens_of_ranks(step))
            goes_on = generation.advance(step, started)
            self._after_step()
            if not goes_on:
                break
        return generation.completions()

    def _generation(
        self,
        requests: Sequence[Request],
        scheduler: Scheduler,
        slots: int,
        on_text: OnText | None,
        on_completion: OnCompletion | None,
        interrupted: Callable[[], bool],
    ) -> Generation:
        context = self._model.config.context
        longest = max(len(request.prompt_tokens) + request.params.max_tokens for request in requests)
        return Generation(
            requests=requests,
            responses=[
                Response(r, tokenizer=self._tokenizer, context=context, decode=self._control.rank == 0)
                for r in requests
            ],
            scheduler=scheduler,
            runner=Runner(self._model, self._model.new_cache(slots, min(longest, context))),
            control=self._control,
            stats=self.stats,
            on_text=on_text,
            on_completion=on_completion,
            interrupted=interrupted,
        )
