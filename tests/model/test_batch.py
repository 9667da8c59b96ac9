"""Batches are laid out segment after segment."""

from array import array

import pytest
import torch

from mixtralkit.model import batch as batch_module
from mixtralkit.model.batch import NO_BLOCK, Segment, make_batch

CPU = torch.device("cpu")


def test_segments_follow_one_another() -> None:
    batch = make_batch([[5, 6, 7], [8], [9, 10]], [0, 4, 2], [[2], (), array("q", [7, 0])], CPU)
    assert batch.tokens_T.tolist() == [5, 6, 7, 8, 9, 10]
    assert batch.positions_T.tolist() == [0, 1, 2, 4, 2, 3]
    assert batch.segments == (Segment(0, 3), Segment(4, 1), Segment(2, 2))
    assert batch.segments_B2.tolist() == [[0, 3], [4, 1], [2, 2]]
    assert batch.tables_BM.tolist() == [[2, NO_BLOCK], [NO_BLOCK, NO_BLOCK], [7, 0]]
    assert batch.logit_rows == (2, 3, 5)


def test_no_segments() -> None:
    batch = make_batch([], [], [], CPU)
    assert (batch.tokens_T.shape, batch.tokens_T.dtype, batch.logit_rows) == ((0,), torch.int64, ())
    assert (batch.segments_B2.shape, batch.tables_BM.shape) == ((0, 2), (0, 0))


def test_a_request_without_blocks() -> None:
    assert make_batch([[3]], [0], [()], CPU).tables_BM.shape == (1, 0)


def test_on_the_device_only_for_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of one token and of several; short tables are filled up. Made once."""
    assert make_batch([[3]], [0], [[0]], CPU).on_device is None
    monkeypatch.setattr(batch_module, "triton_takes", lambda _: True)
    batch = make_batch([[5, 6, 7], [8]], [0, 40], [[2], [1, 4, 5]], CPU)
    on_device = batch.on_device
    assert on_device is not None
    assert on_device.requests_BX.tolist() == [[0, 0, 3, 2, NO_BLOCK, NO_BLOCK], [3, 40, 1, 1, 4, 5]]
    assert on_device.requests_T.tolist() == [0, 0, 0, 1]
    assert (on_device.longest_prompt, on_device.longest_context) == (3, 41)
    assert batch.on_device is on_device


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        make_batch([[1]], [0], [], CPU)
