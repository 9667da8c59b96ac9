"""Strategies against the model that they are for: known only once the checkpoint has been looked at."""

import math

from mixtralkit.config import ModelConfig
from mixtralkit.moe.strategies import Strategies

ROUNDING = 0.01  # of alpha: 14336 / 4096 is 3.5, but people also write 2.67 for 8 / 3


def wrong_beliefs(strategies: Strategies, config: ModelConfig) -> list[str]:
    """What the user believes of the model that is not so, in words. The checkpoint's numbers are used in any case."""
    found = []
    width, alpha = config.dim, config.hidden_dim / config.dim
    if strategies.d_model not in (None, width):
        found.append(f"{strategies.source('d_model')} is {strategies.d_model}, but the model's width is {width}")
    if strategies.alpha is not None and not math.isclose(strategies.alpha, alpha, rel_tol=ROUNDING):
        found.append(
            f"{strategies.source('alpha')} is {strategies.alpha:g}, but an expert's hidden width is {alpha:g} times "
            "the model's"
        )
    return [f"{words}; the checkpoint's is used" for words in found]
