"""What rank 0 tells the ranks to do in a step, what they answer, and both as bytes.

The bytes are JSON of short lists: fields in the order of their dataclass, ends that have their default left out.
Both sides are ranks of one run of one version, so nothing is checked on the way back.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mixtralkit.engine.logprobs import TokenLogprobs
from mixtralkit.engine.request import FinishReason, SamplingParams

Fields = list[Any]  # a dataclass's fields in their order, as JSON


@dataclass(frozen=True)
class Admission:
    """A request that `rank` works on from now on.

    `output_tokens` are those that it has given before it was preempted: they count as its output, and are fed again.
    """

    number: int
    rank: int
    prompt_tokens: tuple[int, ...]
    output_tokens: tuple[int, ...] = ()
    params: SamplingParams = dataclasses.field(default_factory=SamplingParams)


@dataclass(frozen=True)
class Work:
    """What the rank of request `number` does for it in one step.

    First `blocks` are appended to its block table (those shared with other requests, then fresh ones). Then `skip`
    tokens are passed over, because shared blocks hold them already, and the next `length` of its known tokens are fed.
    Where these are its last known ones, what follows them is sampled, and up to `drafts` guesses are fed behind them.
    """

    number: int
    length: int
    skip: int = 0
    drafts: int = 0
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True)
class StepPlan:
    """One step of all ranks.

    `dropped` are requests that their runners forget, before anything else; `admissions` are new ones; `work` is each
    rank's, in the order in which it feeds. With `closing` the loop ends after this step, and with `wants_state` every
    rank tells its state at the end.
    """

    work: tuple[tuple[Work, ...], ...]
    admissions: tuple[Admission, ...] = ()
    dropped: tuple[int, ...] = ()
    closing: bool = False
    wants_state: bool = False

    @cached_property
    def tokens_W(self) -> tuple[int, ...]:
        """The most tokens that each rank feeds: fewer where guesses are wanting or a request has ended meanwhile."""
        return tuple(sum(item.length + item.drafts for item in items) for items in self.work)

    @cached_property
    def most_single_tokens(self) -> int | None:
        """The most requests of a rank, in a step that feeds one token of each of all ranks' requests; else None."""
        if any(item.length + item.drafts != 1 for items in self.work for item in items):
            return None
        return max(map(len, self.work))

    @property
    def has_work(self) -> bool:
        """Whether any rank feeds a token."""
        return any(self.work)

    @property
    def feeds_prompts(self) -> bool:
        """Whether a prompt is fed: some request feeds several known tokens, or has just come."""
        return bool(self.admissions) or any(item.length > 1 for items in self.work for item in items)

    def to_bytes(self) -> bytes:
        """The plan, compactly."""
        work = [[_fields(item) for item in items] for items in self.work]
        admissions = [_admission_fields(item) for item in self.admissions]
        return _json([work, admissions, self.dropped, self.closing, self.wants_state])

    @staticmethod
    def from_bytes(data: bytes) -> "StepPlan":
        """The plan that `to_bytes` gave."""
        work, admissions, dropped, closing, wants_state = json.loads(data)
        return StepPlan(
            work=tuple(tuple(_work(item) for item in items) for items in work),
            admissions=tuple(_admission(item) for item in admissions),
            dropped=tuple(dropped),
            closing=closing,
            wants_state=wants_state,
        )


@dataclass(frozen=True)
class WorkResult:
    """What came of one request's work in one step.

    `fed` is how many of its tokens are in the cache now, in all. `tokens` are the new ones, accepted drafts included:
    none while the prompt is being fed. Of `proposed` drafts `accepted` were right. `logprobs` are parallel to `tokens`,
    `prompt_logprobs` to the prompt's tokens fed in this step (but the first of all, which nothing predicts); both are
    empty unless asked for. `error` says why the request failed, and is None if it did not; `refused` is whether what it
    asked for is the reason.
    """

    number: int
    fed: int
    tokens: tuple[int, ...] = ()
    finish: FinishReason | None = None
    proposed: int = 0
    accepted: int = 0
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    error: str | None = None
    refused: bool = False


# Looked up once, as plans and results are made in every step.
_DEFAULTS = {kind: [field.default for field in dataclasses.fields(kind)] for kind in (Work, WorkResult)}


def results_to_bytes(results: Sequence[WorkResult]) -> bytes:
    """One rank's results of a step, compactly."""
    return _json([_result_fields(result) for result in results])


def results_from_bytes(data: bytes) -> tuple[WorkResult, ...]:
    """The results that `results_to_bytes` gave."""
    return tuple(_result(fields) for fields in json.loads(data))


def _work(fields: Fields) -> Work:
    return Work(*_in_place(fields, 4, tuple))


def _admission_fields(admission: Admission) -> Fields:
    *fields, params = (getattr(admission, field.name) for field in dataclasses.fields(admission))
    return [*fields, params.to_json()]


def _admission(fields: Fields) -> Admission:
    number, rank, prompt_tokens, output_tokens, params = fields
    return Admission(number, rank, tuple(prompt_tokens), tuple(output_tokens), SamplingParams.from_json(params))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _result_fields(result: WorkResult) -> Fields:
    fields = _fields(result)
    for place in range(6, min(len(fields), 8)):
        fields[place] = [(of.token, of.logprob, of.top) for of in fields[place]]
    return fields


def _result(fields: Fields) -> WorkResult:
    fields = _in_place(fields, 2, tuple)
    for place in range(6, 8):
        fields = _in_place(fields, place, _logprobs)
    return WorkResult(*fields)


def _logprobs(items: list[Any]) -> tuple[TokenLogprobs, ...]:
    return tuple(TokenLogprobs(token, logprob, _tuples(top)) for token, logprob, top in items)


def _fields(item: Work | WorkResult) -> Fields:
    """The values of a dataclass's fields, without the defaults at their end."""
    fields = list(item.__dict__.values())
    defaults = _DEFAULTS[type(item)]
    while fields[-1] == defaults[len(fields) - 1]:
        del fields[-1]
    return fields


def _in_place(fields: Fields, place: int, change: Callable[[Any], Any]) -> Fields:
    if place < len(fields):
        fields[place] = change(fields[place])
    return fields


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
