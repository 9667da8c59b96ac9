"""Log probabilities of tokens, as clients are told them. Needs no torch: they also travel in the ranks' results."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenLogprobs:
    """How likely `token` was in the model's own distribution, before penalties, temperature and grammar.

    `top` are the likeliest tokens, best first; where `token` is among them its value is `logprob`, the same float.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
