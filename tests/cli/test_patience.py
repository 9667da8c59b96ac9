"""Ranks that wait for a person do not run into the time-out of their collectives."""

import time
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist

from mixtralkit.cli import patience
from mixtralkit.cli.patience import from_rank_0
from mixtralkit.dist.collectives import Collectives
from tests.ranks import run_ranks

TIMEOUT = 3.0  # seconds of a collective
THINKING = 4.5


def _ask(collectives: Collectives) -> Any:
    group = dist.new_group(timeout=timedelta(seconds=TIMEOUT))
    control = Collectives(group, torch.device("cpu"))
    patience.TICK = 0.2

    def think() -> dict[str, str]:
        time.sleep(THINKING)
        return {"said": "at last"}

    return from_rank_0(control, think), from_rank_0(control, lambda: None)


def test_an_answer_may_take_longer_than_a_collective() -> None:
    assert run_ranks(2, _ask) == [({"said": "at last"}, None)] * 2


def test_alone_nothing_is_exchanged() -> None:
    assert from_rank_0(Collectives(None, torch.device("cpu")), lambda: ["x"]) == ["x"]


def test_an_error_of_rank_0_is_its_own() -> None:
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        from_rank_0(Collectives(None, torch.device("cpu")), fail)
