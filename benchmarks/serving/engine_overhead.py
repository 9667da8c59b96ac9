"""What the engine adds to the forward passes: `python -m benchmarks.serving.engine_overhead CHECKPOINT REQUESTS`.

Answers random prompts with the engine alone, without a server. Of the time from one decode step's forward to the next
one's, what is not the forward itself is its overhead: planning, exchange, sampling, text.
"""

import json
import statistics
import sys
import time
from itertools import pairwise
from typing import Any
from unittest.mock import patch

from benchmarks.peers.shape import PROMPT, STEPS, VOCAB, WARM_STEPS
from mixtralkit.engine.request import SamplingParams
from mixtralkit.llm import LLM
from mixtralkit.model.transformer import Transformer

Forward = tuple[int, float, float]  # tokens, start and end


def timed_forwards(folder: str, requests: int) -> list[Forward]:
    """Every forward pass while so many requests are answered together, after a first lot that warms up."""
    forwards: list[Forward] = []
    forward = Transformer.next_token_logits

    def timed(model: Transformer, batch: Any, cache: Any) -> Any:
        started = time.perf_counter()
        logits = forward(model, batch, cache)
        forwards.append((len(batch.tokens_T), started, time.perf_counter()))
        return logits

    prompts = [
        [(7919 * (requests * at + place)) % (VOCAB - 3) + 3 for at in range(PROMPT)] for place in range(requests)
    ]
    params = SamplingParams(max_tokens=1 + WARM_STEPS + STEPS, ignore_eos=True)
    with patch.object(Transformer, "next_token_logits", timed), LLM(folder, batch_size=requests) as llm:
        llm.generate(prompts, params)
        forwards.clear()
        llm.generate([prompt[::-1] for prompt in prompts], params)
    return forwards


def overhead_of(forwards: list[Forward], requests: int) -> dict[str, float]:
    """Medians over the steps that decode all requests: milliseconds of a step and its forward, the overhead's share."""
    pairs = [(one, two) for one, two in pairwise(forwards) if one[0] == two[0] == requests]
    steps = [two[1] - one[1] for one, two in pairs]
    own = [one[2] - one[1] for one, _ in pairs]
    shares = [1 - forward / step for forward, step in zip(own, steps, strict=True)]
    return {
        "steps": len(pairs),
        "step_milliseconds": statistics.median(steps) * 1e3,
        "forward_milliseconds": statistics.median(own) * 1e3,
        "share": statistics.median(shares),
    }


if __name__ == "__main__":
    print(json.dumps(overhead_of(timed_forwards(sys.argv[1], int(sys.argv[2])), int(sys.argv[2]))))
