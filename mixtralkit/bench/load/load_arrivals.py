"""When requests arrive that do not wait for each other."""

import random
from itertools import accumulate


def poisson_arrivals(count: int, rate: float, seed: int) -> list[float]:
    """Seconds from the start to each of `count` arrivals of a Poisson process of `rate` a second; the first is at 0.

    The gaps between them are exponential with the mean 1 / rate.
    """
    random_numbers = random.Random(f"{seed} arrivals")
    gaps = (random_numbers.expovariate(rate) for _ in range(count - 1))
    return list(accumulate(gaps, initial=0.0))
