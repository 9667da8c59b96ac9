"""A scheduler with simulated ranks behind it, watched: every plan and every block is checked as it comes and goes."""

from collections import deque
from dataclasses import dataclass, field
from random import Random

from mixtralkit.engine.request import SamplingParams
from mixtralkit.engine.scheduler import Scheduler
from mixtralkit.engine.step_plan import StepPlan, WorkResult
from tests.engine.simulated_ranks import SimulatedRank


@dataclass(frozen=True)
class Job:
    """A request; when it comes, and when it is cancelled (in plans); after how many steps with work for it it fails."""

    prompt: tuple[int, ...]
    max_tokens: int
    priority: int = 0
    comes: int = 0
    cancelled: int | None = None
    fails: int | None = None
    whole_prompt: bool = False


@dataclass
class Seen:
    """What can be told from outside of one request: its key in the order of service, and what it holds now."""

    key: tuple[int, int]
    output: list[int] = field(default_factory=list)
    rank: int | None = None
    table: list[int] = field(default_factory=list)
    error: str | None = None


class Scheduled:
    """Drives `scheduler` and checks what it does. `live` are the requests that have come and not ended."""

    def __init__(
        self,
        *,
        world_size: int,
        num_blocks: int,
        block_size: int,
        context: int,
        running_per_rank: int,
        step_tokens: int,
        drafts: int = 0,
        reuse_prefixes: bool = True,
    ) -> None:
        self.scheduler = Scheduler(
            world_size=world_size,
            num_blocks=num_blocks,
            block_size=block_size,
            context=context,
            running_per_rank=running_per_rank,
            step_tokens=step_tokens,
            drafts=drafts,
            reuse_prefixes=reuse_prefixes,
        )
        self._block_size = block_size
        self._running_per_rank = running_per_rank
        self._step_tokens = step_tokens
        self.live: dict[int, Seen] = {}
        self.ended: dict[int, Seen] = {}
        self._failing: dict[int, int] = {}
        self._ranks = [
            SimulatedRank(rank, block_size=block_size, context=context, failing=self._failing, random=Random(rank))
            for rank in range(world_size)
        ]
        self._results: deque[list[WorkResult]] = deque()

    @property
    def untaken(self) -> int:
        """How many steps have run whose results the scheduler has not got."""
        return len(self._results)

    def add(self, number: int, job: Job) -> None:
        """A request comes."""
        params = SamplingParams(max_tokens=job.max_tokens)
        self.scheduler.add(number, job.prompt, params, priority=job.priority, keep_whole_prompt=job.whole_prompt)
        self.live[number] = Seen((job.priority, len(self.live) + len(self.ended)))
        if job.fails is not None:
            self._failing[number] = job.fails

    def cancel(self, number: int) -> None:
        """A request is cancelled, whether it has ended or not."""
        self.scheduler.cancel(number)
        if number in self.live:
            self.ended[number] = self.live.pop(number)
        if not self._failing:
            self._check_blocks()

    def step(self) -> StepPlan:
        """A plan is made, goes to the ranks as bytes, and they run it."""
        plan = self.scheduler.plan()
        self._check_order(plan)
        for number in plan.dropped:
            if number in self.live:
                self.live[number].rank, self.live[number].table = None, []
        for admission in plan.admissions:
            seen = self.live[admission.number]
            assert seen.rank is None
            assert list(admission.output_tokens) == seen.output  # all is known when it is admitted again
            seen.rank = admission.rank
        for rank, items in enumerate(plan.work):
            assert len({item.number for item in items}) == len(items)
            for item in items:
                assert self.live[item.number].rank == rank
                fresh = item.blocks[item.skip // self._block_size :]
                assert not any(block in seen.table for seen in self._of_rank(rank) for block in fresh)
                self.live[item.number].table += item.blocks
        assert max(plan.tokens_W) <= self._step_tokens
        self._check_blocks()
        sent = StepPlan.from_bytes(plan.to_bytes())
        self._results.append([result for rank in self._ranks for result in rank.step(sent)])
        return plan

    def take(self) -> list[WorkResult]:
        """The oldest results come to the scheduler."""
        counted = self.scheduler.take(self._results.popleft())
        for result in counted:
            seen = self.live[result.number]
            seen.output += result.tokens
            seen.error = result.error
            if result.finish or result.error:
                self.ended[result.number] = self.live.pop(result.number)
        if not self._failing:  # what others lose by a failure shows in the next plan
            self._check_blocks()
        return counted

    def _of_rank(self, rank: int) -> list[Seen]:
        return [seen for seen in self.live.values() if seen.rank == rank]

    def _check_order(self, plan: StepPlan) -> None:
        """Nobody is admitted before one who comes first, or loses its place to one who comes after it."""
        before = {number: seen.rank for number, seen in self.live.items() if seen.rank is not None}
        admitted = {admission.number for admission in plan.admissions}
        waiting = {number for number in self.live if number not in before or number in plan.dropped} - admitted
        assert all(self.live[number].key < self.live[other].key for number in admitted for other in waiting)
        if self._failing:  # dropped for another reason, perhaps
            return
        for number in set(plan.dropped) & set(before):
            stay = [other for other in before if before[other] == before[number] and other not in plan.dropped]
            assert all(self.live[other].key < self.live[number].key for other in stay)

    def _check_blocks(self) -> None:
        """Exactly the blocks of running requests are in use, and no more requests run than may."""
        ranks = [self._of_rank(rank) for rank in range(len(self._ranks))]
        for seen in self.live.values():
            assert len(set(seen.table)) == len(seen.table)
        assert self.scheduler.used_blocks == tuple(len({b for seen in rank for b in seen.table}) for rank in ranks)
        assert max(map(len, ranks)) <= self._running_per_rank
        running = sum(map(len, ranks))
        assert (self.scheduler.running, self.scheduler.waiting) == (running, len(self.live) - running)
