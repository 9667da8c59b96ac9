"""Capacities against their definition, and the rows that are kept against a loop over experts."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixtralkit.errors import UsageError
from mixtralkit.moe.capacity import Capacity, rows_kept
from mixtralkit.moe.routing import Routing

HELD = torch.tensor([True, False, False, True])


@pytest.mark.parametrize(
    ("capacity", "tokens", "limits"),
    [
        (Capacity(1.0), 6, [3, 3, 3, 3]),  # 12 rows on 4 experts
        (Capacity(1.25), 6, [4, 4, 4, 4]),  # 3.75, rounded up
        (Capacity(0.25, minimum=4), 6, [4, 4, 4, 4]),
        (Capacity(2.0, cold_factor=0.5), 6, [6, 2, 2, 6]),
        (Capacity(None, cold_factor=0.5), 6, [6, 2, 2, 6]),  # without a limit: as many rows as there are tokens
        (Capacity(None, minimum=9, cold_factor=0.5), 6, [6, 9, 9, 6]),
        (Capacity(None), 6, [6, 6, 6, 6]),
        (Capacity(1.25), 0, [0, 0, 0, 0]),
    ],
)
def test_limits(capacity: Capacity, tokens: int, limits: list[int]) -> None:
    """Worked out by hand, for a top-k of 2 and 4 experts of which the first and the last are this rank's."""
    assert capacity.limits(tokens, 2, HELD).tolist() == limits


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf])
def test_no_such_factor(factor: float) -> None:
    with pytest.raises(UsageError, match="the capacity factor is .* above 0"):
        Capacity(factor)
    with pytest.raises(UsageError, match="the capacity factor of cold experts is .* above 0"):
        Capacity(1.0, cold_factor=factor)


def test_no_such_minimum() -> None:
    with pytest.raises(UsageError, match="the minimum capacity is -1 rows; it must be 0 or more"):
        Capacity(1.0, minimum=-1)


@given(st.data())
def test_the_heaviest_rows_are_kept(data: st.DataObject) -> None:
    """The first of each expert's rows, sorted by weight and then by token; of few weights, so that many are equal."""
    experts = data.draw(st.integers(1, 5))
    top_k, tokens = data.draw(st.integers(1, experts)), data.draw(st.integers(0, 12))
    ids = [data.draw(st.permutations(range(experts)))[:top_k] for _ in range(tokens)]
    weights = [[data.draw(st.sampled_from([0.25, 0.5, 0.75])) for _ in range(top_k)] for _ in range(tokens)]
    limits = [data.draw(st.integers(0, tokens)) for _ in range(experts)]
    wanted = [[False] * top_k for _ in range(tokens)]
    for expert, limit in enumerate(limits):
        rows = [(t, k) for t in range(tokens) for k in range(top_k) if ids[t][k] == expert]
        for t, k in sorted(rows, key=lambda row: (-weights[row[0]][row[1]], row[0]))[:limit]:
            wanted[t][k] = True
    shape = tokens, top_k
    routing = Routing(torch.tensor(ids, dtype=torch.int64).view(shape), torch.tensor(weights).view(shape))
    kept = rows_kept(routing, torch.tensor(limits))
    assert (kept.dtype, kept.shape) == (torch.bool, shape)
    assert kept.tolist() == wanted
