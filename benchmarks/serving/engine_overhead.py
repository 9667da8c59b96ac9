"""What the engine adds to the forward passes: `python -m benchmarks.serving.engine_overhead CHECKPOINT REQUESTS`.

Answers random prompts with the engine alone, without a server. Of the time from one decode step's forward to the next
one's, what the forward would not take if it ran alone is the engine's: planning, exchange, sampling, text, and what the
forward is slowed by when some of that is done beside it. A machine is not equally fast from one second to the next, so
steps and forwards alone take turns.
"""

import json
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from benchmarks.peers.shape import PROMPT, VOCAB, WARM_STEPS
from mixtralkit.engine.leader import Leader
from mixtralkit.engine.request import SamplingParams
from mixtralkit.llm import LLM
from mixtralkit.model.transformer import Transformer

PAIRS = 24  # of a forward alone and a step


@dataclass(frozen=True)
class Pass:
    """One forward pass of so many tokens; in a step that is not to be timed, `alone` is that of one like it."""

    tokens: int
    started: float
    ended: float
    alone: float | None


class ForwardTimer:
    """Notes every forward pass of `requests` tokens. Before every second one, it is run twice with nothing beside it.

    The first of the two is not timed: the results of the step before are taken beside it. They write into the cache
    what the third writes.
    """

    def __init__(self, requests: int) -> None:
        self.passes: list[Pass] = []
        self._requests = requests
        self._repeating = False
        self._forward = Transformer.next_token_logits
        self._begin_planning = Leader.begin_planning  # what its hook on the last layer calls

    def next_token_logits(self, model: Transformer, batch: Any, cache: Any) -> Any:
        """Stands for the model's."""
        alone, entered = None, time.perf_counter()
        if len(batch.tokens_T) == self._requests and len(self.passes) % 2:
            self._repeating = True
            self._forward(model, batch, cache)
            started = time.perf_counter()
            self._forward(model, batch, cache)
            alone = time.perf_counter() - started
            self._repeating = False
        logits = self._forward(model, batch, cache)
        self.passes.append(Pass(len(batch.tokens_T), entered, time.perf_counter(), alone))
        return logits

    def begin_planning(self, leader: Leader) -> None:
        """Stands for the leader's."""
        if not self._repeating:
            self._begin_planning(leader)


def timed_passes(folder: str, requests: int) -> list[Pass]:
    """The forward passes while so many requests are answered together, after a first lot that warms up."""
    timer = ForwardTimer(requests)
    prompts = [
        [(7919 * (requests * at + place)) % (VOCAB - 3) + 3 for at in range(PROMPT)] for place in range(requests)
    ]
    params = SamplingParams(max_tokens=1 + WARM_STEPS + 2 * PAIRS, ignore_eos=True)
    with (
        patch.object(Transformer, "next_token_logits", lambda *given: timer.next_token_logits(*given)),
        patch.object(Leader, "begin_planning", lambda leader: timer.begin_planning(leader)),
        LLM(folder, batch_size=requests) as llm,
    ):
        llm.generate(prompts, params)
        timer.passes.clear()
        llm.generate([prompt[::-1] for prompt in prompts], params)
    return timer.passes


def overhead_of(passes: list[Pass], requests: int) -> dict[str, float]:
    """Medians over the steps that decode all requests: milliseconds of a step and its forward, the overhead's share."""
    found = [
        (one.alone, two.ended - two.started, three.started - two.started)
        for one, two, three in zip(passes, passes[1:], passes[2:], strict=False)
        if one.tokens == two.tokens == three.tokens == requests and one.alone is not None
    ]
    alone, forward, step = (statistics.median(seconds) for seconds in zip(*found, strict=True))
    return {
        "steps": len(found),
        "step_milliseconds": step * 1e3,
        "forward_milliseconds": forward * 1e3,
        "alone_milliseconds": alone * 1e3,
        "share": statistics.median(1 - alone / step for alone, _, step in found),
    }


if __name__ == "__main__":
    print(json.dumps(overhead_of(timed_passes(sys.argv[1], int(sys.argv[2])), int(sys.argv[2]))))
