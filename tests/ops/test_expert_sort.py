"""Sorting rows by expert, against Python's stable sort."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixtralkit.ops.expert_sort import expert_sort


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[list[int]], list[int]]:
    experts = draw(st.integers(1, 9))
    top_k = draw(st.integers(1, experts))
    choice = st.lists(st.integers(0, experts - 1), min_size=top_k, max_size=top_k, unique=True)
    return draw(st.lists(choice, max_size=12)), draw(st.permutations(range(experts)))


@pytest.mark.usefixtures("way")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the way is the same for all problems
@given(problems())
def test_rows_are_grouped_by_expert_in_the_order_given(problem: tuple[list[list[int]], list[int]]) -> None:
    choices, order = problem
    ids = torch.tensor(choices, dtype=torch.int64).view(len(choices), -1 if choices else 1)
    rows, counts = expert_sort(ids, torch.tensor(order))
    flat = [expert for choice in choices for expert in choice]
    assert rows.tolist() == sorted(range(len(flat)), key=lambda row: order.index(flat[row]))
    assert counts.tolist() == [flat.count(expert) for expert in order]
