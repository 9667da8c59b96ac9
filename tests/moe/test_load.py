"""Rows are counted whenever somebody looks, however many calls there were."""

import pytest
import torch

from mixtralkit.moe.load import _PENDING, ExpertLoad


@pytest.mark.parametrize("calls", [0, 1, _PENDING - 1, _PENDING, _PENDING + 1, 3 * _PENDING])
def test_every_row_is_counted_once(calls: int) -> None:
    load = ExpertLoad(2, 3, torch.device("cpu"))
    for call in range(calls):
        load.count(1, torch.tensor([[call % 3]]))
    expected = [sum(call % 3 == expert for call in range(calls)) for expert in range(3)]
    assert load.rows_LE.tolist() == [[0, 0, 0], expected]


def test_what_was_read_does_not_change() -> None:
    load = ExpertLoad(1, 2, torch.device("cpu"))
    load.count(0, torch.tensor([[0, 1], [1, 0]]))
    before = load.rows_LE
    load.count(0, torch.tensor([[1]]))
    assert before.tolist() == [[2, 2]]
    assert load.rows_LE.tolist() == [[2, 3]]
