"""What runs in each step, on every rank: rank 0 plans for all. Pure, so all of it can be tested without a model.

A step is planned while the one before it runs, so without knowing what that one gives: how many tokens of a response
are known then is a lower bound (each sampling gives one at least), and blocks are taken for the upper bound (all
guesses are right). Ranks work through plans in order, so a block that is given back can be used in the next plan.
"""

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter

from mixtralkit.engine.kv_blocks import block_hashes
from mixtralkit.engine.rank_schedule import RankSchedule
from mixtralkit.engine.request import SamplingParams
from mixtralkit.engine.request_progress import RequestProgress
from mixtralkit.engine.step_plan import Admission, StepPlan, WorkResult
from mixtralkit.engine.untaken_plans import UntakenPlans
from mixtralkit.engine.waiting_queue import WaitingQueue
from mixtralkit.errors import UsageError

MOST_UNTAKEN = 2  # plans: one runs, and the next is ready when it ends


class Scheduler:
    """First come, first served, within a priority; a request that finds no place holds up those behind it.

    Each of `world_size` ranks has `num_blocks` blocks of `block_size` tokens, at most `running_per_rank` requests at a
    time, and feeds at most `step_tokens` tokens a step. First every request that is responding gets a token, with up to
    `drafts` guesses; the rest goes to prompts in their order, in chunks. When blocks run out, the last of the rank's
    running requests waits again, to be fed anew. `context` is the most tokens that prompt and response have together.
    With `reuse_prefixes` requests of equal beginnings share the full blocks of these.

    Every plan has to be taken, in order. Raises `UsageError` where a step has not a token for every running request.
    """

    def __init__(
        self,
        *,
        world_size: int,
        num_blocks: int,
        block_size: int,
        running_per_rank: int,
        step_tokens: int,
        context: int,
        reuse_prefixes: bool = True,
        drafts: int = 0,
    ) -> None:
        if step_tokens < running_per_rank:
            raise UsageError(
                f"a step of {step_tokens} tokens is too short for {running_per_rank} running requests a rank; allow at "
                "least as many tokens as requests"
            )
        self._num_blocks = num_blocks
        self._block_size = block_size
        self._context = context
        self._reuse = reuse_prefixes
        self._drafts = drafts
        self._ranks = [
            RankSchedule(
                rank,
                num_blocks=num_blocks,
                block_size=block_size,
                running_most=running_per_rank,
                step_tokens=step_tokens,
                reuse=reuse_prefixes,
            )
            for rank in range(world_size)
        ]
        self._requests: dict[int, RequestProgress] = {}
        self._ended: dict[int, RequestProgress] = {}  # since results were taken last
        self._waiting = WaitingQueue()
        self._arrivals = 0
        self._dropped: list[int] = []
        self._untaken = UntakenPlans()
        self._preemptions = 0

    @property
    def waiting(self) -> int:
        """How many requests have no place, preempted ones among them."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many requests have a place on some rank."""
        return sum(rank.running for rank in self._ranks)

    @property
    def used_blocks(self) -> tuple[int, ...]:
        """How many blocks of each rank running requests hold."""
        return tuple(rank.pool.used for rank in self._ranks)

    @property
    def kv_usage(self) -> float:
        """Which part of all ranks' blocks that is, between 0 and 1."""
        return sum(self.used_blocks) / (self._num_blocks * len(self._ranks))

    @property
    def preemptions(self) -> int:
        """How often a request had to give its place up for want of blocks, so far."""
        return self._preemptions

    @property
    def prefix_queries(self) -> int:
        """The tokens of all requests admitted so far that were looked for in the cache."""
        return sum(rank.prefix_queries for rank in self._ranks)

    @property
    def prefix_hits(self) -> int:
        """The tokens of these that were there."""
        return sum(rank.prefix_hits for rank in self._ranks)

    def fits(self, length: int) -> bool:
        """Whether a request of so many tokens, prompt and longest response together, can ever run."""
        return -(-(min(length, self._context) - 1) // self._block_size) <= self._num_blocks

    def add(
        self,
        number: int,
        prompt_tokens: Sequence[int],
        params: SamplingParams,
        *,
        priority: int = 0,
        keep_whole_prompt: bool = False,
    ) -> None:
        """Let a new request wait, behind those of the same `priority` and before those of a larger one.

        With `keep_whole_prompt` every token of the prompt is fed, whatever is cached. It must fit.
        """
        prompt = tuple(prompt_tokens)
        limit = min(len(prompt) + params.max_tokens, self._context)
        assert number not in self._requests
        assert 0 < len(prompt) < limit, "the caller has checked the request"
        assert self.fits(limit), "the caller has asked fits"
        self._arrivals += 1
        progress = self._requests[number] = RequestProgress(
            number,
            prompt,
            params,
            order=(priority, self._arrivals),
            limit=limit,
            whole_prompt=keep_whole_prompt,
            tokens=list(prompt),
            hashes=block_hashes(prompt, self._block_size) if self._reuse else [],
        )
        self._waiting.add(progress)

    def cancel(self, number: int) -> None:
        """End a request now; nothing of it is taken any more. One that is unknown or has ended is left alone."""
        progress = self._requests.get(number)
        if progress is None:
            return
        if progress.rank is not None:
            self._dropped.append(number)
        self._end(progress)

    def cached_tokens(self, number: int) -> int:
        """How many of a request's tokens were in the cache when it was admitted first, so far.

        Known until results are taken after its end; 0 where nothing is known.
        """
        progress = self._requests.get(number) or self._ended.get(number)
        return progress.cached if progress is not None else 0

    def plan(self) -> StepPlan:
        """The next step; one plan at most may be untaken."""
        assert len(self._untaken) < MOST_UNTAKEN
        for rank in self._ranks:
            for progress in rank.go_on(self._drafts):
                self._preemptions += 1
                self._put_back(progress)
        admissions = self._admit()
        entries = [list(rank.entries.values()) for rank in self._ranks]
        self._untaken.add(list(chain.from_iterable(entries)))
        dropped, self._dropped = tuple(self._dropped), []
        work = tuple(tuple([entry.work for entry in items]) for items in entries)
        return StepPlan(work, admissions, dropped)

    def take(self, results: Sequence[WorkResult]) -> list[WorkResult]:
        """Take in the results of the oldest untaken plan, from all ranks; returns those that count.

        Results of requests that have ended meanwhile do not, nor those that relied on what a failed request wrote.
        """
        by_number = {result.number: result for result in results}
        self._ended = {}
        failed = {result.number for result in results if result.error is not None}
        if failed:
            self._void_spoiled(failed)
        counted = []
        for entry in self._untaken.take():
            progress = entry.progress
            if entry.void or self._requests.get(progress.number) is not progress:
                continue
            result = by_number.get(progress.number)
            assert not entry.samples or (result is not None and (result.tokens or result.finish or result.error))
            if result is not None:
                self._take_in(progress, result)
                counted.append(result)
        return counted

    def _take_in(self, progress: RequestProgress, result: WorkResult) -> None:
        progress.extend(result.tokens, self._block_size, hashed=self._reuse)
        if progress.rank is not None and progress.responding and result.error is None:
            self._ranks[progress.rank].register(progress, len(progress.tokens) - 1)
        if result.finish is not None or result.error is not None:
            self._end(progress)

    def _void_spoiled(self, failed: set[int]) -> None:
        """Let others not use what the requests that failed were to write; those that did are fed anew."""
        for entry in self._untaken.void(failed):
            for block in entry.registered:
                self._ranks[entry.rank].pool.forget(block)
            progress = entry.progress
            if entry.void and progress.rank is not None:
                self._ranks[progress.rank].remove(progress)
                self._put_back(progress)

    def _admit(self) -> tuple[Admission, ...]:
        """Give places to the requests that wait, in their order, as long as one can have one."""
        admissions = []
        while self._waiting and not self._waiting.first.untaken:
            progress = self._waiting.first
            offers = [(offer, rank) for rank in self._ranks if (offer := rank.offer(progress)) is not None]
            if not offers:
                break
            _, rank = min(offers, key=itemgetter(0))
            rank.admit(self._waiting.pop())
            admissions.append(progress.admission(rank.number))
        return tuple(admissions)

    def _put_back(self, progress: RequestProgress) -> None:
        """Let a request that has lost its place wait; its rank forgets it, and what is in flight still counts."""
        progress.restarted = True
        self._dropped.append(progress.number)
        self._waiting.add(progress)

    def _end(self, progress: RequestProgress) -> None:
        if progress.rank is not None:
            self._ranks[progress.rank].remove(progress)
        else:
            self._waiting.remove(progress)
        self._ended[progress.number] = self._requests.pop(progress.number)
