"""One request as its rank works on it: its tokens, its block table, what it feeds next, and when it has ended."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mixtralkit.engine.drafts import PromptLookup
from mixtralkit.engine.logprobs import TokenLogprobs, token_logprobs
from mixtralkit.engine.request import FinishReason
from mixtralkit.engine.sampling import Sampler
from mixtralkit.engine.step_plan import Admission, Work, WorkResult


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


class RunningRequest:
    """`context` is the most tokens that prompt and response may have together."""

    def __init__(self, admission: Admission, sampler: Sampler, *, context: int, eos_id: int) -> None:
        params = admission.params
        self.number = admission.number
        self.table: list[int] = []
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
        self.table += work.blocks
        start = self._fed + work.skip
        end = start + work.length
        samples = end == len(self._tokens)
        drafts = self._drafts(work.drafts) if samples and work.drafts else ()
        scores = self._params.prompt_logprobs is not None and start < self._prompt_length
        first_logits = 0 if scores else work.length - samples
        return Feed(start, (*self._tokens[start:end], *drafts), drafts, first_logits, samples)

    def take(self, feed: Feed, logits_RV: torch.Tensor) -> WorkResult:
        """End the step that `feed` began, given the logits from the row `feed.first_logits` on."""
        scored = self._score(feed, logits_RV)
        known = len(feed.tokens) - len(feed.drafts)
        tokens: list[int] = []
        logprobs: list[TokenLogprobs] = []
        finish: FinishReason | None = None
        if feed.samples:
            finish = self._sample(feed.drafts, logits_RV[known - 1 - feed.first_logits :], tokens, logprobs)
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
        self, drafts: Sequence[int], logits_RV: torch.Tensor, tokens: list[int], logprobs: list[TokenLogprobs]
    ) -> FinishReason | None:
        """Sample until a draft was wrong or the request has ended; one token after the last right draft."""
        for row, logits_V in enumerate(logits_RV):
            token, told = self._sampler.next(logits_V)
            self._tokens.append(token)
            tokens.append(token)
            if self._lookup is not None:
                self._lookup.push(token)
            if told is not None:
                logprobs.append(told)
            finish = self._why_finished(token)
            if finish or row == len(drafts) or token != drafts[row]:
                return finish
        raise AssertionError("there is a row of logits after the last draft")

    def _score(self, feed: Feed, logits_RV: torch.Tensor) -> tuple[TokenLogprobs, ...]:
        """What the rows say of the prompt's tokens that follow them."""
        most = self._params.prompt_logprobs
        if most is None:
            return ()
        following = self._tokens[feed.start + 1 : min(feed.start + len(feed.tokens) + 1, self._prompt_length)]
        return tuple(token_logprobs(row.numpy(), token, most) for row, token in zip(logits_RV, following, strict=False))

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
