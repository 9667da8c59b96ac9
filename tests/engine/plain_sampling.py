"""Sampling by its definition: everything in loops over all tokens, with Python's own floats and a full sort."""

import math
from collections.abc import Collection, Sequence

from mixtralkit.engine.request import SamplingParams


def changed(
    logits: Sequence[float], params: SamplingParams, prompt: Sequence[int], output: Sequence[int]
) -> list[float]:
    """The logits with bias and penalties, as vLLM and OpenAI define them."""
    bias = dict(params.logit_bias)
    result = []
    for token, logit in enumerate(logits):
        logit += bias.get(token, 0.0)
        if token in prompt or token in output:
            logit = logit / params.repetition_penalty if logit > 0 else logit * params.repetition_penalty
        logit -= params.frequency_penalty * output.count(token)
        logit -= params.presence_penalty * (token in output)
        result.append(logit)
    return result


def shares(logits: Sequence[float], params: SamplingParams, excluded: Collection[int] = ()) -> dict[int, float]:
    """The probability of every token that may be drawn."""
    best = max(logit for token, logit in enumerate(logits) if token not in excluded)
    weights = {
        token: math.exp((logit - best) / params.temperature)
        for token, logit in enumerate(logits)
        if token not in excluded
    }
    weights = {token: weight for token, weight in weights.items() if weight >= params.min_p}
    ranked = sorted(weights, key=lambda token: -weights[token])[: params.top_k or None]
    return _of_all(top_p(ranked, weights, params.top_p), weights)


def top_p(ranked: Sequence[int], weights: dict[int, float], share: float) -> list[int]:
    """The fewest of the best whose share of all of them reaches `share`."""
    wanted = share * math.fsum(weights[token] for token in ranked)
    for count in range(1, len(ranked)):
        if math.fsum(weights[token] for token in ranked[:count]) >= wanted:
            return list(ranked[:count])
    return list(ranked)


def _of_all(tokens: Sequence[int], weights: dict[int, float]) -> dict[int, float]:
    whole = math.fsum(weights[token] for token in tokens)
    return {token: weights[token] / whole for token in tokens}
