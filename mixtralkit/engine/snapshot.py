"""What can be known of a running engine from outside: how things stand, and what each step did."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mixtralkit.engine.step_plan import WorkResult


@dataclass(frozen=True)
class Snapshot:
    """How things stand on all ranks.

    Counts of requests; `kv_usage` the part of all blocks that running requests hold, 0 to 1; since the start: times
    that a request was preempted, tokens of prompts looked up in the cache and found there, and steps.
    `seconds_since_step` is how long ago all ranks last exchanged a step, be it an idle one; `states` is what each rank
    told of itself last, empty in the beginning.
    """

    running: int
    waiting: int
    kv_usage: float
    preemptions: int
    prefix_queries: int
    prefix_hits: int
    steps: int
    last_step_seconds: float
    seconds_since_step: float
    states: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class StepFacts:
    """One step: rank 0's seconds for it, the most tokens that each rank fed, and what came of each request's work.

    `queue_seconds` is how long each of the requests had waited that got their first place since the step before.
    """

    seconds: float
    tokens_W: tuple[int, ...]
    results: tuple[WorkResult, ...]
    queue_seconds: tuple[float, ...] = ()
