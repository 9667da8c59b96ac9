"""What the answers' times come to: the figures of a load test."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mixtralkit.bench.load.answer_stream import Answer
from mixtralkit.bench.load.load_client import Failure


@dataclass(frozen=True)
class Spread:
    """How some times, in seconds, are spread."""

    mean: float
    median: float
    p90: float
    p99: float


@dataclass(frozen=True)
class LoadFigures:
    """`seconds` from the first request's start to the last one's end. Tokens and rates are of complete answers only.

    `ttft` is the time to the first token, `tpot` the time per output token after it, `itl` the time between two pieces
    of text, `latency` that from the request to the end of its answer; each None where nothing was measured.
    `short` counts answers with fewer tokens than were asked for, `uncounted` those whose tokens the server did not
    count.
    """

    seconds: float
    answered: int
    failed: dict[str, int]
    prompt_tokens: int
    output_tokens: int
    requests_per_second: float
    output_tokens_per_second: float
    total_tokens_per_second: float
    ttft: Spread | None
    tpot: Spread | None
    itl: Spread | None
    latency: Spread | None
    short: int
    uncounted: int

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the values lie, linear between two of them as numpy has it."""
    place = (len(ascending) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (ascending[above] - ascending[below]) * (place - below)


def spread_of(values: Iterable[float]) -> Spread | None:
    """The spread of some values, None if there are none."""
    ascending = sorted(values)
    if not ascending:
        return None
    return Spread(statistics.fmean(ascending), *(percentile(ascending, percent) for percent in (50, 90, 99)))


def time_per_token(answer: Answer) -> float | None:
    """Seconds for each output token after the first; None where there is no second one."""
    return (answer.latency - answer.first) / (answer.output_tokens - 1) if answer.output_tokens > 1 else None


def figures_of(results: Sequence[Answer | Failure]) -> LoadFigures:
    """The figures of a run's results."""
    answers = [result for result in results if isinstance(result, Answer)]
    seconds = _seconds(results)
    prompts, outputs = (sum(getattr(answer, name) or 0 for answer in answers) for name in _COUNTED)
    return LoadFigures(
        seconds=seconds,
        answered=len(answers),
        failed=dict(Counter(result.kind for result in results if isinstance(result, Failure))),
        prompt_tokens=prompts,
        output_tokens=outputs,
        requests_per_second=_rate(len(answers), seconds),
        output_tokens_per_second=_rate(outputs, seconds),
        total_tokens_per_second=_rate(prompts + outputs, seconds),
        ttft=spread_of(answer.first for answer in answers),
        tpot=spread_of(each for answer in answers if (each := time_per_token(answer)) is not None),
        itl=spread_of(gap for answer in answers for gap in answer.gaps),
        latency=spread_of(answer.latency for answer in answers),
        short=sum(answer.output_tokens < answer.asked_tokens for answer in answers),
        uncounted=sum(not answer.usage for answer in answers),
    )


_COUNTED = ("prompt_tokens", "output_tokens")


def _seconds(results: Sequence[Answer | Failure]) -> float:
    if not results:
        return 0.0
    return max(result.started + result.latency for result in results) - min(result.started for result in results)


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
