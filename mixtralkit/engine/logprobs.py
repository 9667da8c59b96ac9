"""Log probabilities of tokens, as clients are told them. Needs no torch: they also travel in the ranks' results."""

from dataclasses import dataclass

import numpy as np

from mixtralkit.engine.largest import Floats, largest, largest_logit


@dataclass(frozen=True)
class TokenLogprobs:
    """How likely `token` was in the model's own distribution, before penalties, temperature and grammar.

    `top` are the likeliest tokens, best first; where `token` is among them its value is `logprob`, the same float.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def token_logprobs(logits_V: Floats, token: int, count: int) -> TokenLogprobs:
    """Of `token`, with the `count` likeliest tokens, from the model's logits; equal ones are in the order of their ids.

    Works in float64, so that it does not matter how many tokens a vocabulary has. Raises `RequestError` for a row with
    a NaN or an infinity.
    """
    best = largest_logit(logits_V)
    weights_V = logits_V.astype(np.float64)
    weights_V -= best
    log_sum = float(np.log(np.exp(weights_V, out=weights_V).sum()))

    def logprob(other: int) -> float:
        return float(logits_V[other]) - best - log_sum  # in this order: near 0 nothing of the value is lost

    top = largest(logits_V, min(count, logits_V.size)).tolist()
    return TokenLogprobs(token, logprob(token), tuple((other, logprob(other)) for other in top))
