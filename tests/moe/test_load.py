"""Rows are counted whenever somebody looks, however many calls there were; the decayed count is that of a formula."""

import math

import pytest
import torch

from mixtralkit.moe.load import _PENDING, HALF_LIFE, ExpertLoad

CPU = torch.device("cpu")


@pytest.mark.parametrize("calls", [0, 1, _PENDING - 1, _PENDING, _PENDING + 1, 3 * _PENDING])
def test_every_row_is_counted_once(calls: int) -> None:
    load = ExpertLoad(2, 3, CPU)
    for call in range(calls):
        load.count(1, torch.tensor([[call % 3]]))
    expected = [sum(call % 3 == expert for call in range(calls)) for expert in range(3)]
    assert load.rows_LE.tolist() == [[0, 0, 0], expected]
    assert load.decayed_LE.tolist() == [[0, 0, 0], expected]  # as no tokens were marked
    assert load.rows_LE.tolist() == [[0, 0, 0], expected]


def test_what_was_read_does_not_change() -> None:
    load = ExpertLoad(1, 2, CPU)
    load.count(0, torch.tensor([[0, 1], [1, 0]]))
    before, decayed = load.rows_LE, load.decayed_LE
    load.count(0, torch.tensor([[1]]))
    load.mark_tokens(7)
    assert (before.tolist(), decayed.tolist()) == ([[2, 2]], [[2, 2]])
    assert load.rows_LE.tolist() == [[2, 3]]
    assert load.decayed_LE[0, 0] < 2
    assert (load.rows_LE.dtype, load.decayed_LE.dtype) == (torch.int64, torch.float64)


def step(load: ExpertLoad, experts: list[int]) -> None:
    """A step of one token an expert of `experts`, top-1, in layer 0."""
    load.count(0, torch.tensor(experts, dtype=torch.int64)[:, None])
    load.mark_tokens(len(experts))


def weight(begin: float, end: float, now: float) -> float:
    """What one of the rows that came evenly from `begin` to `end` weighs at `now`, all in half-lives: an integral."""
    parts = 10_000
    return sum(0.5 ** (now - begin - (end - begin) * (part + 0.5) / parts) for part in range(parts)) / parts


def test_the_decayed_count_is_that_of_the_formula() -> None:
    """Steps of very different sizes, looked at after each; the integral of the reference is right to 1e-9."""
    load = ExpertLoad(1, 3, CPU, half_life=100)
    sizes = [1, 16, 16, 700, 1, 40]
    expected = torch.zeros(3, dtype=torch.float64)
    now, end = 0.0, sum(sizes) / 100
    for number, size in enumerate(sizes):
        step(load, [number % 3] * size)
        expected[number % 3] += size * weight(now, now + size / 100, end)
        now += size / 100
        assert load.decayed_LE.sum() > 0
    torch.testing.assert_close(load.decayed_LE[0], expected, rtol=1e-7, atol=0)


def test_after_a_half_life_half_is_left() -> None:
    load = ExpertLoad(1, 2, CPU)
    step(load, [0] * 64)
    before = float(load.decayed_LE[0, 0])
    for _ in range(HALF_LIFE // 16):
        step(load, [1] * 16)
    assert float(load.decayed_LE[0, 0]) == pytest.approx(before / 2, rel=1e-9)
    assert load.rows_LE.tolist() == [[64, HALF_LIFE]]


def test_a_prefill_weighs_as_much_as_its_tokens_one_by_one() -> None:
    """The same mixture in one step and in many: equal but for rounding, and never more than a bounded number."""
    whole, parts = ExpertLoad(1, 2, CPU), ExpertLoad(1, 2, CPU)
    step(whole, [0, 1] * 10_000)
    for _ in range(2_500):
        step(parts, [0, 1] * 4)
    torch.testing.assert_close(whole.decayed_LE, parts.decayed_LE, rtol=1e-9, atol=0)
    assert float(whole.decayed_LE.sum()) < HALF_LIFE / math.log(2)


def test_ranks_add_up_to_one_process() -> None:
    """Each rank counts its own tokens and marks those of all; also a rank that has none."""
    generator = torch.Generator().manual_seed(0)
    alone, ranks = ExpertLoad(1, 4, CPU), [ExpertLoad(1, 4, CPU) for _ in range(3)]
    for size in [3000, *[16] * 200]:
        ids = torch.randint(0, 4, (size, 2), generator=generator)
        for load, share in zip([alone, *ranks], [ids, ids[: size // 3], ids[size // 3 :], ids[:0]], strict=True):
            load.count(0, share)
            load.mark_tokens(size)
    total = torch.stack([rank.decayed_LE for rank in ranks]).sum(0)
    torch.testing.assert_close(total, alone.decayed_LE, rtol=1e-9, atol=0)


def test_steps_without_tokens_change_nothing() -> None:
    load = ExpertLoad(1, 2, CPU)
    step(load, [0, 1, 1])
    before = load.decayed_LE
    step(load, [])
    assert load.decayed_LE.tolist() == before.tolist()
