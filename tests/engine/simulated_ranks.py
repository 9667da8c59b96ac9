"""Ranks that do what plans say without a model: in place of keys and values, the cache holds what they depend on.

A position's K and V depend on all tokens up to it, so the simulated cache holds these. What a request reads is compared
with its own tokens: a block that was overwritten, never written or shared wrongly shows at once, as a token `WRONG`.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from mixtralkit.engine.step_plan import Admission, StepPlan, Work, WorkResult

EOS = 0
TOKENS = (1, 2)  # few, so that requests meet in their tokens
WRONG = 99

Written = tuple[int, ...] | None  # the tokens up to a position, or None for nonsense


def next_token(tokens: Sequence[int]) -> int:
    """What the model says: fixed by the tokens before, and EOS one time in 32."""
    value = zlib.crc32(bytes(tokens))
    return TOKENS[(value >> 8) % 2] if value % 32 else EOS


def response(prompt: Sequence[int], limit: int) -> list[int]:
    """What a request must give, however it is planned; `limit` is the most tokens with the prompt."""
    tokens = list(prompt)
    while len(tokens) < limit and EOS not in tokens[len(prompt) :]:
        tokens.append(next_token(tokens))
    return tokens[len(prompt) :]


@dataclass
class Running:
    """A request on its rank. It fails after `steps_left` steps with work for it, and writes nothing then."""

    tokens: list[int]
    limit: int
    steps_left: int | None
    fed: int = 0
    table: list[int] = field(default_factory=list)


@dataclass
class Fed:
    """One work item as it is being done: `tokens` are those up to the last that is fed, guesses included."""

    number: int
    request: Running
    start: int
    known: int
    tokens: list[int]
    sane: bool = True


class SimulatedRank:
    """One rank: its requests and its cache. `random` decides how many guesses there are and how many are right.

    `failing` requests fail, after so many steps with work for them.
    """

    def __init__(self, rank: int, *, block_size: int, context: int, failing: dict[int, int], random: Random) -> None:
        self._rank = rank
        self._block_size = block_size
        self._context = context
        self._failing = failing
        self._random = random
        self._requests: dict[int, Running] = {}
        self._cache: dict[tuple[int, int], Written] = {}

    def step(self, plan: StepPlan) -> list[WorkResult]:
        """Forget, admit, feed, sample."""
        for number in plan.dropped:
            self._requests.pop(number, None)
        for admission in plan.admissions:
            if admission.rank == self._rank:
                assert admission.number not in self._requests
                self._requests[admission.number] = self._running(admission)
        items = [item for item in plan.work[self._rank] if item.number in self._requests]
        failed = [item.number for item in items if self._requests[item.number].steps_left == 0]
        for number in failed:
            del self._requests[number]
        feds = [self._feed(item) for item in items if item.number not in failed]
        self._write(feds)
        for fed in feds:  # in their order: nonsense goes on to those behind
            self._read(fed)
        results = [WorkResult(number, 0, error="it failed") for number in failed]
        return results + [self._sample(fed) for fed in feds]

    def _running(self, admission: Admission) -> Running:
        tokens = [*admission.prompt_tokens, *admission.output_tokens]
        limit = min(len(admission.prompt_tokens) + admission.params.max_tokens, self._context)
        return Running(tokens, limit, self._failing.get(admission.number))

    def _feed(self, item: Work) -> Fed:
        request = self._requests[item.number]
        request.table += item.blocks
        if request.steps_left is not None:
            request.steps_left -= 1
        start = request.fed + item.skip
        known = start + item.length
        assert start < known <= len(request.tokens)
        tokens = request.tokens[:known]
        if known == len(request.tokens):
            guesses = self._random.randint(0, min(item.drafts, request.limit - known - 1))
            right = self._random.randint(0, guesses)
            for place in range(guesses):
                token = next_token(tokens)
                tokens.append(token if place < right else 3 - token)
        return Fed(item.number, request, start, known, tokens)

    def _write(self, feds: Sequence[Fed]) -> None:
        """All of a layer's K and V are written before any is read."""
        for fed in feds:
            for position in range(fed.start, len(fed.tokens)):
                self._cache[self._place(fed.request, position)] = tuple(fed.tokens[: position + 1])

    def _read(self, fed: Fed) -> None:
        places = [self._place(fed.request, position) for position in range(len(fed.tokens))]
        read = [self._cache.get(place) for place in places]
        fed.sane = read == [tuple(fed.tokens[: position + 1]) for position in range(len(fed.tokens))]
        if not fed.sane:
            self._cache.update(dict.fromkeys(places[fed.start :], None))

    def _sample(self, fed: Fed) -> WorkResult:
        request, new = fed.request, []
        if fed.known == len(request.tokens):
            for place in range(fed.known, len(fed.tokens) + 1):
                token = next_token(fed.tokens[:place])
                new.append(token)
                if place == len(fed.tokens) or token != fed.tokens[place] or token == EOS:
                    break
        request.tokens += new
        request.fed = fed.known + max(0, len(new) - 1)
        finish = "eos" if EOS in new else "length" if len(request.tokens) >= request.limit else None
        if finish:
            del self._requests[fed.number]
        told = tuple(new) if fed.sane else (WRONG,) * len(new)
        return WorkResult(fed.number, request.fed, told, "eos" if finish == "eos" else "length" if finish else None)

    def _place(self, request: Running, position: int) -> tuple[int, int]:
        return request.table[position // self._block_size], position % self._block_size
