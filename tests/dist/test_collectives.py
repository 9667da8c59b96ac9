"""The trade with rank 0 on real ranks, against what each rank is known to have given."""

import random
import threading

import pytest
import torch

from mixtralkit.dist.collectives import _CELL, _LENGTH, Collectives
from tests.ranks import run_ranks

ROOM = _CELL - _LENGTH.size  # so much fits into the first message
# The last is longer than a socket's buffers, so it would hang if both sides wrote before they read.
SIZES = (0, 1, ROOM - 1, ROOM, ROOM + 1, 1 << 20)


def _content(rank: int, trade: int, nbytes: int) -> bytes:
    return random.Random(f"{rank} {trade}").randbytes(nbytes)


def _given(world_size: int, trade: int) -> list[bytes]:
    """What the ranks give: the long ones meet the short ones of the others, every size has its turn everywhere."""
    return [_content(rank, trade, SIZES[(trade + 2 * rank) % len(SIZES)]) for rank in range(world_size)]


def _trade(collectives: Collectives) -> list[str]:
    """What did not come as it was given, in trades without a pause between them."""
    wrong = []
    for trade in range(2 * len(SIZES)):
        given = _given(collectives.size, trade)
        expected = given if collectives.rank == 0 else given[:1]
        if collectives.trade_with_first(given[collectives.rank]) != expected:
            wrong.append(f"trade {trade}")
    return wrong


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_rank_0_gets_what_each_gave_and_each_gets_what_rank_0_gave(world_size: int) -> None:
    assert run_ranks(world_size, _trade) == [[]] * world_size


def _trade_beside_other_exchanges(collectives: Collectives) -> list[str]:
    """The trades' wrongs, while a second thread gathers numbers; the gathers' wrongs behind them."""

    def gather() -> None:
        for number in range(50):
            numbers = collectives.all_gather(torch.tensor([100 * collectives.rank + number])).flatten().tolist()
            if numbers != [100 * rank + number for rank in range(collectives.size)]:
                wrong.append(f"gather {number}")

    wrong = list[str]()
    thread = threading.Thread(target=gather)
    thread.start()
    trades = _trade(collectives)
    thread.join()
    return trades + wrong


def test_other_exchanges_may_be_under_way_in_another_thread() -> None:
    """On the CPU, data and control share one process group, so the messages must be told apart."""
    assert run_ranks(2, _trade_beside_other_exchanges) == [[], []]


def test_one_rank_alone_needs_no_process_group() -> None:
    assert Collectives(None, torch.device("cpu")).trade_with_first(b"mine") == [b"mine"]


def _counted(collectives: Collectives) -> tuple[int, list[int], int]:
    collectives.trade_with_first(b"x" * (ROOM + 1 if collectives.rank == 1 else 5))
    return collectives.calls, collectives.bytes_to, collectives.bytes_sent


def test_what_a_trade_sends_is_counted() -> None:
    """A whole cell to each partner of the trade, and what does not fit into it."""
    assert run_ranks(3, _counted) == [
        (1, [0, _CELL, _CELL], 2 * _CELL),
        (1, [_CELL + 1, 0, 0], _CELL + 1),
        (1, [_CELL, 0, 0], _CELL),
    ]
