"""The arithmetic of limits, against numbers worked out by hand and against drawing experts at random."""

import random

import pytest

from mixtralkit.bench.limits import (
    Rates,
    WeightBytes,
    active_layer_params,
    bound_of,
    expected_touched,
    limit_seconds,
    step_work,
)
from mixtralkit.bench.shapes import MIXTRAL_8X7B, MIXTRAL_8X22B, MIXTRAL_791M

BF16_8X7B = WeightBytes(shared=2 * 32 * 41_984_000, expert=352_321_536, head=262_144_000, kv_token=131_072)


@pytest.mark.parametrize(
    ("config", "params"),
    [(MIXTRAL_791M, 791_233_536), (MIXTRAL_8X7B, 46_702_792_704), (MIXTRAL_8X22B, 140_630_071_296)],
)
def test_the_shapes_have_their_published_numbers_of_parameters(config: object, params: int) -> None:
    """8x22B's vocabulary here is v3's, 768 words and 9,437,184 parameters more than the 140,620,634,112 of v1."""
    assert config.num_params == params  # type: ignore[attr-defined]


def test_a_token_of_8x7b_meets_12_6_billion_parameters_in_the_layers() -> None:
    """12.88 billion active ones, as published, less the embedding, the head and the last norm."""
    assert active_layer_params(MIXTRAL_8X7B) == 12_879_925_248 - 2 * 32_000 * 4096 - 4096


def test_8x7b_decodes_169_tokens_a_second_at_4_3_terabytes_a_second() -> None:
    """A known figure of one H200: 25.5 GB a step at batch 1."""
    work = step_work(MIXTRAL_8X7B, BF16_8X7B, tokens=1, requests=1, positions=0, touched=2, busy_ranks=1)
    rates = Rates(read=4.3e12, product=1e15)
    assert work.nbytes == pytest.approx(25.5e9, rel=0.005)
    assert 1 / limit_seconds(work, rates) == pytest.approx(169, abs=1)
    assert bound_of(work, rates) == "memory"


def test_a_prefill_is_two_operations_a_parameter_and_token_and_the_head_once() -> None:
    work = step_work(MIXTRAL_8X7B, BF16_8X7B, tokens=512, requests=1, positions=512, touched=8, busy_ranks=1)
    assert work.operations == 2 * (512 * active_layer_params(MIXTRAL_8X7B) + 32_000 * 4096)
    rates = Rates(read=1e12, product=1e12)
    assert bound_of(work, rates) == "compute"
    assert limit_seconds(work, rates) == work.operations / 1e12


def test_every_busy_rank_reads_the_weights_that_all_hold_and_experts_are_read_once() -> None:
    one, two = (
        step_work(MIXTRAL_8X7B, BF16_8X7B, tokens=8, requests=8, positions=400, touched=7, busy_ranks=ranks)
        for ranks in (1, 2)
    )
    assert two.nbytes - one.nbytes == BF16_8X7B.shared + BF16_8X7B.head
    assert two.operations == one.operations


@pytest.mark.parametrize("tokens", [1, 2, 8, 32])
def test_the_expected_number_of_experts_is_what_random_draws_touch(tokens: int) -> None:
    """2,000 draws: their mean lies within 0.1 of the expectation, five of its standard errors."""
    draw = random.Random(tokens)
    touched = [len({e for _ in range(tokens) for e in draw.sample(range(8), 2)}) for _ in range(2000)]
    assert expected_touched(8, 2, tokens) == pytest.approx(sum(touched) / len(touched), abs=0.1)
