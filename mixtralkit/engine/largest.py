"""The largest of many values without sorting them all."""

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mixtralkit.errors import RequestError

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Indices: TypeAlias = npt.NDArray[np.intp]

GROUPS = 4  # for each value that is asked for: more make the bound tighter, and longer to find
WIDTH = 256  # fewer groups take longer, as maxima are found in so many of them at a time


class BadLogits(RequestError):
    """A model gave logits that are no numbers, which is not the fault of the request that it was for."""

    def __init__(self, best: float) -> None:
        super().__init__(f"the model's logits are no finite numbers (their largest is {best}); check its weights")


def largest(values: Floats, count: int) -> Indices:
    """The indices of the `count` largest values, best first; of equal values the first come first.

    The same as a stable sort and a cut, whose time a vocabulary does not need. There must be no NaN.
    """
    if count == 0:
        return np.empty(0, dtype=np.intp)
    candidates = np.flatnonzero(values >= _bound(values, count))
    return candidates[np.argsort(-values[candidates], kind="stable")[:count]]


def largest_logit(logits_V: Floats) -> float:
    """The largest of a model's logits. Raises `BadLogits` for a row with a NaN or an infinity."""
    best = float(logits_V.max())  # a NaN anywhere is the maximum
    if not math.isfinite(best):
        raise BadLogits(best)
    return best


def _bound(values: Floats, count: int) -> Any:
    """A value that at least `count` of the values reach: as many groups of them have a largest value that does."""
    height = values.size // max(GROUPS * count, WIDTH)
    if height < 2:
        return np.partition(values, -count)[-count] if count < values.size else -np.inf
    width = values.size // height
    tops = values[: height * width].reshape(height, width).max(axis=0)  # what is left over may be higher, which is fine
    return np.partition(tops, -count)[-count]
