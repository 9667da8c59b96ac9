"""The largest values, against a stable sort and a cut."""

import numpy as np
import pytest

from mixtralkit.engine.largest import Floats, largest


@pytest.mark.parametrize("size", [1, 2, 255, 256, 1000, 4099])  # below and above the width of the groups, and odd
@pytest.mark.parametrize("count", [0, 1, 5, 200, 1000])
@pytest.mark.parametrize("distinct", [1, 3, 10**6])  # all equal, many equal, hardly any
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_as_a_stable_sort(size: int, count: int, distinct: int, dtype: type) -> None:
    values: Floats = np.random.default_rng(size + count).integers(0, distinct, size).astype(dtype)
    assert largest(values, count).tolist() == np.argsort(-values, kind="stable")[:count].tolist()


def test_excluded_values_come_last() -> None:
    values = np.full(1000, -np.inf)
    values[[700, 3]] = [1.0, 2.0]
    assert largest(values, 4).tolist() == [3, 700, 0, 1]
