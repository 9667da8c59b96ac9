"""What a step gets: each block of a pass once, the same blocks whenever it is asked, targets one ahead of inputs."""

import pytest
import torch

from mixtralkit.errors import UsageError
from mixtralkit.train.data import ShuffledText, held_out_batches

BOS = 1


def text(tokens: int = 1000, seed: int = 0) -> ShuffledText:
    return ShuffledText(torch.arange(2, tokens + 2), length=16, bos_id=BOS, seed=seed)


def test_targets_follow_inputs_and_blocks_start_with_bos() -> None:
    blocks = text().batch(3, 4)
    assert blocks.inputs_BT.shape == blocks.targets_BT.shape == (4, 16)
    assert (blocks.inputs_BT[:, 0] == BOS).all()
    assert torch.equal(blocks.inputs_BT[:, 1:], blocks.targets_BT[:, :-1])
    assert (blocks.targets_BT.diff() == 1).all(), "a block is a stretch of the text"


def test_a_pass_has_every_block_once() -> None:
    """61 blocks of 16 in 1000 tokens: no token comes twice in a pass, and few are left out at its ends."""
    source = text()
    assert source.blocks_per_pass == 61
    tokens = torch.cat([source.batch(step, 1).targets_BT for step in range(61)]).flatten()
    assert tokens.unique().numel() == tokens.numel() == 61 * 16


def test_passes_and_seeds_differ_and_steps_repeat() -> None:
    source = text()
    first, again = source.batch(0, 61).targets_BT, text().batch(0, 61).targets_BT
    assert torch.equal(first, again)
    assert not torch.equal(first, source.batch(1, 61).targets_BT)
    assert not torch.equal(first, text(seed=1).batch(0, 61).targets_BT)


def test_a_step_may_reach_into_the_next_pass() -> None:
    source = text()
    singly = torch.cat([source.batch(number, 1).targets_BT for number in range(56, 64)])
    assert torch.equal(source.batch(7, 8).targets_BT, singly)


def test_the_shares_of_the_ranks_make_the_batch() -> None:
    blocks = text().batch(0, 6)
    shares = [blocks.share(rank, 3) for rank in range(3)]
    rows = torch.cat([share.targets_BT for share in shares])
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, blocks.targets_BT.tolist()))
    parts = blocks.split(4)
    assert [part.inputs_BT.shape[0] for part in parts] == [4, 2]
    assert torch.equal(torch.cat([part.inputs_BT for part in parts]), blocks.inputs_BT)


def test_a_text_that_is_too_short_is_refused() -> None:
    assert text(32).batch(0, 1).targets_BT.shape == (1, 16)
    with pytest.raises(UsageError, match="the text has 31 tokens; blocks of 16 need at least 32"):
        text(31)


@pytest.mark.parametrize("tokens", [0, 1, 15, 16, 17, 32, 100])
def test_held_out_tokens_count_once_each(tokens: int) -> None:
    source = torch.arange(2, tokens + 2)
    batches = held_out_batches(source, length=16, bos_id=BOS, size=2)
    targets = [target for blocks in batches for target in blocks.targets_BT.flatten().tolist()]
    assert targets == source.tolist()
    assert all((blocks.inputs_BT[:, 0] == BOS).all() for blocks in batches)
    assert all(blocks.targets_BT.shape[0] <= 2 for blocks in batches)
