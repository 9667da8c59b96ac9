"""One rank's share of a plan: which of its running requests are fed how much, into which blocks. Pure."""

from bisect import insort
from operator import attrgetter

from mixtralkit.engine.kv_blocks import BlockPool
from mixtralkit.engine.request_progress import RequestProgress
from mixtralkit.engine.step_plan import Work
from mixtralkit.engine.untaken_plans import Entry

# What a running request weighs in tokens to feed: a long prompt holds a rank up once, a further request in every step.
RUNNING_WEIGHT = 64

_order = attrgetter("order")


class RankSchedule:
    """The running requests of one rank, its blocks, and its part of the plan that is being made.

    In a plan come first the requests that are responding, then prompts, each in the requests' order; `go_on` plans
    them, and then `offer` and `admit` add requests that had been waiting.
    """

    def __init__(
        self, number: int, *, num_blocks: int, block_size: int, running_most: int, step_tokens: int, reuse: bool
    ) -> None:
        self.number = number
        self.pool = BlockPool(num_blocks, reuse=reuse)
        self.entries: dict[int, Entry] = {}
        self.prefix_queries = 0
        self.prefix_hits = 0
        self._block_size = block_size
        self._running_most = running_most
        self._step_tokens = step_tokens
        self._reuse = reuse
        self._running: list[RequestProgress] = []  # best first
        self._preempted: list[RequestProgress] = []
        self._left = 0

    @property
    def running(self) -> int:
        """How many requests have a place."""
        return len(self._running)

    def go_on(self, drafts: int) -> list[RequestProgress]:
        """Begin a plan with the running requests; returns those that were preempted for want of blocks."""
        self.entries, self._preempted, self._left = {}, [], self._step_tokens
        responding = [progress for progress in self._running if progress.responding]
        if responding:  # guesses take half of the step at most, so that prompts go on; there is room for all responses
            drafts = min(drafts, self._step_tokens // (2 * len(responding)))
        for progress in responding:
            if progress.rank is not None:
                self._respond(progress, drafts)
        for progress in self._prompts():
            if progress.rank is not None:
                self._feed(progress)
        return self._preempted

    def offer(self, progress: RequestProgress) -> int | None:
        """How much this rank would have to do if the request came here, in tokens to feed; None without room for it.

        There is room when the blocks of all its tokens are free, less those that the prompts of others still need: a
        request that would be preempted soon is better admitted later.
        """
        if self._left < 1 or len(self._running) >= self._running_most:
            return None
        shared, prompts = self._shared(progress), self._prompts()
        tokens = len(progress.tokens)
        need = self._blocks_of(min(tokens + 1, progress.limit - 1)) - len(shared)
        need += sum(not self.pool.holders(block) for block in shared)
        need += sum(self._blocks_of(len(other.tokens)) - len(other.table) for other in prompts)
        if not self.pool.can_take(need):
            return None
        to_feed = self._step_tokens - self._left + sum(len(other.tokens) - other.fed for other in prompts)
        return tokens - len(shared) * self._block_size + to_feed + RUNNING_WEIGHT * len(self._running)

    def admit(self, progress: RequestProgress) -> None:
        """Give the request a place, and plan the first work for it; `offer` must have said yes."""
        progress.rank = self.number
        insort(self._running, progress, key=_order)
        if self._reuse and progress.may_share and not progress.restarted:
            self.prefix_queries += len(progress.tokens)
        self._feed(progress)

    def remove(self, progress: RequestProgress) -> None:
        """Take the request's place and blocks back; what it wrote can be found until it is overwritten."""
        self._running.remove(progress)
        self.pool.release(progress.table)
        progress.leave()

    def register(self, progress: RequestProgress, fed: int) -> tuple[int, ...]:
        """Let the blocks that the request's first `fed` tokens fill be found; returns those that are so anew."""
        if not self._reuse:
            return ()
        places = range(progress.registered, fed // self._block_size)
        progress.registered = max(progress.registered, places.stop)
        table, hashes = progress.table, progress.hashes
        return tuple(table[place] for place in places if self.pool.register(table[place], hashes[place]))

    def _prompts(self) -> list[RequestProgress]:
        return [progress for progress in self._running if not progress.responding]

    def _respond(self, progress: RequestProgress, drafts: int) -> None:
        known = progress.least_known
        if known >= progress.limit:  # it has ended when what is in flight is taken
            return
        drafts = min(drafts, progress.limit - known - 1)
        need = self._need(progress, drafts)
        if not self.pool.can_take(need):  # no guess is worth another request's blocks
            drafts = 0
            need = self._need(progress, drafts)
        blocks = self._take(progress, need)
        if blocks is not None:
            self._enter(progress, Work(progress.number, 1, 0, drafts, blocks), samples=True)

    def _need(self, progress: RequestProgress, drafts: int) -> int:
        """Blocks for a further token and `drafts`, should all guesses in flight turn out right."""
        most_fed = min(progress.least_known + progress.guesses + drafts, progress.limit - 1)
        return max(0, self._blocks_of(most_fed) - len(progress.table))

    def _feed(self, progress: RequestProgress) -> None:
        if self._left < 1:
            return
        tokens = len(progress.tokens)
        shared = self._shared(progress)
        self._share(progress, shared)
        end = self._end_of_chunk(progress.fed, tokens)
        blocks = self._take(progress, max(0, self._blocks_of(end) - len(progress.table)))
        if blocks is None:
            return
        work = Work(progress.number, end - progress.fed, len(shared) * self._block_size, 0, (*shared, *blocks))
        progress.fed, progress.responding = end, end == tokens
        entry = self._enter(progress, work, samples=end == tokens)
        entry.shared, entry.registered = tuple(shared), self.register(progress, end)

    def _shared(self, progress: RequestProgress) -> list[int]:
        """The blocks that hold the next tokens already. The last token is fed in any case: something must follow it."""
        if not self._reuse or not progress.may_share or progress.fed % self._block_size:
            return []
        end = (len(progress.tokens) - 1) // self._block_size
        return self.pool.find(progress.hashes, progress.fed // self._block_size, end)

    def _share(self, progress: RequestProgress, shared: list[int]) -> None:
        self.pool.hold(shared)
        progress.table += shared
        skipped = len(shared) * self._block_size
        progress.fed += skipped
        progress.registered += len(shared)
        if not progress.restarted:
            progress.cached += skipped
            self.prefix_hits += skipped

    def _end_of_chunk(self, start: int, tokens: int) -> int:
        """All tokens, or as many as the step has room for: full blocks if possible, for only these can be shared."""
        end = min(start + self._left, tokens)
        full = end - end % self._block_size
        return full if start < full and end < tokens else end

    def _take(self, progress: RequestProgress, count: int) -> tuple[int, ...] | None:
        """Fresh blocks for the request, at the cost of those that come after it; None when it had to go itself."""
        while not self.pool.can_take(count):
            last = self._running[-1]
            self._preempt(last)
            if last is progress:
                return None
        blocks = self.pool.take(count)
        progress.table += blocks
        return blocks

    def _preempt(self, progress: RequestProgress) -> None:
        entry = self.entries.pop(progress.number, None)
        if entry is not None:  # it was responding, so nobody relies on this work
            self._left += entry.work.length + entry.work.drafts
        self.remove(progress)
        self._preempted.append(progress)

    def _enter(self, progress: RequestProgress, work: Work, *, samples: bool) -> Entry:
        entry = self.entries[progress.number] = Entry(progress, self.number, work, samples)
        self._left -= work.length + work.drafts
        return entry

    def _blocks_of(self, tokens: int) -> int:
        return -(-tokens // self._block_size)
