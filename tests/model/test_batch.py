"""Batches are laid out segment after segment."""

import pytest
import torch

from mixtralkit.model.batch import Segment, make_batch

CPU = torch.device("cpu")


def test_segments_follow_one_another() -> None:
    batch = make_batch([[5, 6, 7], [8], [9, 10]], [0, 4, 2], [2, 0, 1], CPU)
    assert batch.tokens_T.tolist() == [5, 6, 7, 8, 9, 10]
    assert batch.positions_T.tolist() == [0, 1, 2, 4, 2, 3]
    assert batch.segments == (Segment(2, 0, 3), Segment(0, 4, 1), Segment(1, 2, 2))
    assert batch.last_rows == [2, 3, 5]


def test_no_segments() -> None:
    batch = make_batch([], [], [], CPU)
    assert (batch.tokens_T.shape, batch.tokens_T.dtype, batch.last_rows) == ((0,), torch.int64, [])


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        make_batch([[1]], [0], [], CPU)
