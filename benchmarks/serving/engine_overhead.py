"""What the engine adds to the forward passes: `python -m benchmarks.serving.engine_overhead CHECKPOINT REQUESTS`.

Answers random prompts with the engine alone, without a server. Of the time from one decode step's forward to the next
one's, what the forward would not take if it ran alone is the engine's: planning, exchange, sampling, text, and what the
forward is slowed by when some of that is done beside it.
"""

import json
import statistics
import sys
import time
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.peers.shape import PROMPT, STEPS, VOCAB, WARM_STEPS
from mixtralkit.engine.request import SamplingParams
from mixtralkit.llm import LLM
from mixtralkit.model.transformer import Transformer

Forward = tuple[int, float, float]  # tokens, start and end


def timed_forwards(folder: str, requests: int) -> tuple[list[Forward], list[float]]:
    """Every forward pass while so many requests are answered together, after a first lot that warms up.

    And the seconds of as many as there are steps, one after the other without an engine, of the batch halfway.
    """
    forwards: list[Forward] = []
    batches: list[tuple[Transformer, Any, Any]] = []
    forward = Transformer.next_token_logits

    def timed(model: Transformer, batch: Any, cache: Any) -> Any:
        started = time.perf_counter()
        logits = forward(model, batch, cache)
        forwards.append((len(batch.tokens_T), started, time.perf_counter()))
        batches.append((model, batch, cache))
        return logits

    prompts = [
        [(7919 * (requests * at + place)) % (VOCAB - 3) + 3 for at in range(PROMPT)] for place in range(requests)
    ]
    params = SamplingParams(max_tokens=1 + WARM_STEPS + STEPS, ignore_eos=True)
    with patch.object(Transformer, "next_token_logits", timed):
        with LLM(folder, batch_size=requests) as llm:
            llm.generate(prompts, params)
            forwards.clear()
            batches.clear()
            llm.generate([prompt[::-1] for prompt in prompts], params)
        answered = list(forwards)  # the engine has ended: it would take further passes for its own
        whole = [batch for batch, (tokens, _, _) in zip(batches, answered, strict=True) if tokens == requests]
        repeat(*whole[len(whole) // 2])
    return answered, [ended - started for _, started, ended in forwards[len(answered) + WARM_STEPS :]]


@torch.inference_mode()
def repeat(model: Transformer, batch: Any, cache: Any) -> None:
    """The same forward pass again and again; what it writes into the cache is there already."""
    for _ in range(WARM_STEPS + STEPS):
        model.next_token_logits(batch, cache)


def overhead_of(forwards: list[Forward], alone: list[float], requests: int) -> dict[str, float]:
    """Medians over the steps that decode all requests: milliseconds of a step and its forward, the overhead's share.

    `alone` are seconds of forward passes without an engine.
    """
    pairs = [(one, two) for one, two in pairwise(forwards) if one[0] == two[0] == requests]
    step = statistics.median(two[1] - one[1] for one, two in pairs)
    bare = statistics.median(alone)
    return {
        "steps": len(pairs),
        "step_milliseconds": step * 1e3,
        "forward_milliseconds": statistics.median(one[2] - one[1] for one, _ in pairs) * 1e3,
        "alone_milliseconds": bare * 1e3,
        "share": 1 - bare / step,
    }


if __name__ == "__main__":
    print(json.dumps(overhead_of(*timed_forwards(sys.argv[1], int(sys.argv[2])), int(sys.argv[2]))))
