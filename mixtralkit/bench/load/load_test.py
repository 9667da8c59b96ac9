"""A whole load test of one server: find out what it serves, warm it up, send the load, gather the results."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from mixtralkit.bench.load.answer_stream import Answer
from mixtralkit.bench.load.http_client import HttpClient
from mixtralkit.bench.load.load_arrivals import poisson_arrivals
from mixtralkit.bench.load.load_client import Failure, LoadClient
from mixtralkit.bench.load.load_plan import LoadPlan
from mixtralkit.bench.load.load_prompts import LoadRequest, Pool, load_requests, warm_up_requests
from mixtralkit.bench.load.load_run import LoadCounts, LoadRun, within
from mixtralkit.bench.load.load_target import TargetError, check_lengths, prompt_pool, target_model

WARM_UP_CONCURRENCY = 8


@dataclass(frozen=True)
class Target:
    """The server at `url`, without /v1. `model` None is the first that it lists. Prompts are made of token ids below
    `vocab_size`, or as `prompt_pool` finds out. A request is given up when nothing comes for `patience` seconds.
    """

    url: str
    model: str | None
    key: str | None
    vocab_size: int | None
    patience: float


@dataclass(frozen=True)
class LoadResult:
    """What a load test found; `model` is what was asked, `prompts` what they were made of: token ids or words."""

    model: str
    prompts: str
    results: tuple[Answer | Failure, ...]


class LoadTest:
    """`on_begin` is called when the server is warm; setting the event that it returns ends the run early.

    `on_change` is called whenever something comes, with how far the run is.
    """

    def __init__(
        self,
        target: Target,
        plan: LoadPlan,
        on_begin: Callable[[], asyncio.Event],
        on_change: Callable[[LoadCounts], None],
    ) -> None:
        self._target = target
        self._plan = plan
        self._on_begin = on_begin
        self._on_change = on_change

    async def run(self) -> LoadResult:
        """The results.

        Raises `TargetError` when the server is not there or a request to warm it up fails, and `UsageError` when the
        requests are longer than the model's context.
        """
        target, plan = self._target, self._plan
        with closing(HttpClient(target.url, target.key, target.patience)) as http:
            model = await target_model(http, target.model)
            check_lengths(plan, model)
            pool = await prompt_pool(http, model.name, plan.endpoint, target.vocab_size, plan.seed)
            await self._warm_up(http, model.name, pool)
            results = await self._measure(http, model.name, load_requests(plan, pool))
        return LoadResult(model.name, "words" if isinstance(pool[0], str) else "token ids", results)

    async def _warm_up(self, http: HttpClient, model: str, pool: Pool) -> None:
        run = self._new_run(http, model, lambda counts: None)
        await run.at_most(warm_up_requests(self._plan, pool), WARM_UP_CONCURRENCY)
        failures = [result for result in run.results if isinstance(result, Failure)]
        if failures:
            kind, message = failures[0].kind, failures[0].message
            raise TargetError(f"{self._target.url} failed while it was warmed up: {kind}: {message}")

    async def _measure(self, http: HttpClient, model: str, requests: list[LoadRequest]) -> tuple[Answer | Failure, ...]:
        plan, stopping = self._plan, self._on_begin()
        run = self._new_run(http, model, self._on_change)
        if plan.rate is not None:
            work = run.at_times(requests, poisson_arrivals(len(requests), plan.rate, plan.seed))
        else:
            work = run.at_most(requests, plan.concurrency or len(requests))
        await within(work, plan.deadline, stopping)
        return tuple(sorted(run.results, key=lambda result: result.started))

    def _new_run(self, http: HttpClient, model: str, on_change: Callable[[LoadCounts], None]) -> LoadRun:
        counts = LoadCounts()

        def on_piece() -> None:
            counts.pieces += 1
            on_change(counts)

        client = LoadClient(http, model, self._plan.endpoint, on_piece)
        return LoadRun(client.send, client.now, counts, lambda: on_change(counts))
