"""One request as its rank works on it: its tokens, its block table, what it feeds next, and when it has ended."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from mixtralkit.engine.drafts import PromptLookup
from mixtralkit.engine.logprobs import TokenLogprobs, token_logprobs
from mixtralkit.engine.request import FinishReason
from mixtralkit.engine.sampling import Sampler, is_plain
from mixtralkit.engine.step_plan import Admission, Work, WorkResult
from mixtralkit.ops.sample import Settings

Rows: TypeAlias = torch.Tensor | Sequence[int]  # logits [R, V] on the host, or the tokens that ops/sample chose


@dataclass(frozen=True)
class Feed:
    """What a request feeds in a step: `tokens` from position `start` on, the last of them `drafts` that are guessed.

    `first_logits` is the first of these tokens after which logits are wanted.
    """

    start: int
    tokens: tuple[int, ...]
    drafts: tuple[int, ...]
    first_logits: int
    samples: bool

    @property
    def rows(self) -> int:
        """After how many tokens logits are wanted."""
        return len(self.tokens) - self.first_logits


class RunningRequest:
    """`context` is the most tokens that prompt and response may have together."""

    def __init__(self, admission: Admission, sampler: Sampler, *, context: int, eos_id: int) -> None:
        params = admission.params
        self.number = admission.number
        self.table = array("q")
        self._sampler = sampler
        self._params = params
        self._prompt_length = len(admission.prompt_tokens)
        self._tokens = [*admission.prompt_tokens, *admission.output_tokens]
        self._fed = 0
        self._most = min(context, self._prompt_length + params.max_tokens)
        self._context = context
        self._eos_id = None if params.ignore_eos else eos_id
        self._lookup: PromptLookup | None = None

    def feed(self, work: Work) -> Feed:
        """Begin a step: the blocks are there from now on, and the tokens that others have computed are passed over."""
        self.table.extend(work.blocks)
        start = self._fed + work.skip
        end = start + work.length
        samples = end == len(self._tokens)
        drafts = self._drafts(work.drafts) if samples and work.drafts else ()
        scores = self._params.prompt_logprobs is not None and start < self._prompt_length
        first_logits = 0 if scores else work.length - samples
        return Feed(start, (*self._tokens[start:end], *drafts), drafts, first_logits, samples)

    def settings(self, feed: Feed) -> list[Settings] | None:
        """For ops/sample, of the rows that `feed` wants; None for a request whose logits must come to the host."""
        return [self._sampler.settings(row) for row in range(feed.rows)] if is_plain(self._params) else None

    def take(self, feed: Feed, rows: Rows) -> WorkResult:
        """End the step that `feed` began, given its rows: logits, or tokens if there were `settings` for them."""
        scored = self._score(feed, rows)
        known = len(feed.tokens) - len(feed.drafts)
        tokens: list[int] = []
        logprobs: list[TokenLogprobs] = []
        finish: FinishReason | None = None
        if feed.samples:
            finish = self._sample(feed.drafts, rows[known - 1 - feed.first_logits :], tokens, logprobs)
        accepted = sum(token == draft for token, draft in zip(tokens, feed.drafts, strict=False))
        self._fed = feed.start + known + accepted
        return WorkResult(
            number=self.number,
            fed=self._fed,
            tokens=tuple(tokens),
            finish=finish,
            proposed=len(feed.drafts),
            accepted=accepted,
            logprobs=tuple(logprobs),
            prompt_logprobs=scored,
        )

    def _sample(
        self, drafts: Sequence[int], rows: Rows, tokens: list[int], logprobs: list[TokenLogprobs]
    ) -> FinishReason | None:
        """Sample until a draft was wrong or the request has ended; one token after the last right draft."""
        for place, row in enumerate(rows):
            token, told = (self._sampler.accept(row), None) if isinstance(row, int) else self._sampler.next(row)
            self._tokens.append(token)
            tokens.append(token)
            if self._lookup is not None:
                self._lookup.push(token)
            if told is not None:
                logprobs.append(told)
            finish = self._why_finished(token)
            if finish or place == len(drafts) or token != drafts[place]:
                return finish
        raise AssertionError("there is a row of logits after the last draft")

    def _score(self, feed: Feed, rows: Rows) -> tuple[TokenLogprobs, ...]:
        """What the rows say of the prompt's tokens that follow them."""
        most = self._params.prompt_logprobs
        if most is None or not isinstance(rows, torch.Tensor):
            return ()
        following = self._tokens[feed.start + 1 : min(feed.start + len(feed.tokens) + 1, self._prompt_length)]
        return tuple(token_logprobs(row.numpy(), token, most) for row, token in zip(rows, following, strict=False))

    def _why_finished(self, token: int) -> FinishReason | None:
        if token == self._eos_id:
            return "eos"
        if token in self._params.stop_token_ids or self._sampler.ended:
            return "stop"
        if len(self._tokens) < self._most:
            return None
        return "context" if self._most == self._context else "length"

    def _drafts(self, most: int) -> tuple[int, ...]:
        """Guesses of what comes next, leaving room for the token behind them."""
        if self._lookup is None:
            self._lookup = PromptLookup(self._tokens)
        return tuple(self._lookup.propose(min(most, self._most - len(self._tokens) - 1)))
