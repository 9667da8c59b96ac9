"""Strategies made in Python: values out of range, contradictions, and what their properties say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mixtralkit.errors import UsageError
from mixtralkit.moe.strategies import Strategies
from mixtralkit.moe.strategy_check import wrong_beliefs
from tests.random_model import TINY


def test_the_default_is_to_do_nothing() -> None:
    """What may change the text is off, and so is everything else."""
    nothing = Strategies()
    assert not any([nothing.overlaps, nothing.adaptive, nothing.may_replicate, nothing.drops_rows])
    assert nothing.plan_file is nothing.outgoing_fraction is None


def test_what_they_say_of_themselves() -> None:
    assert Strategies(overlap="auto").overlaps
    assert Strategies(overlap=2).overlaps
    assert Strategies(placement="adaptive").adaptive
    assert Strategies(placement=Path("plan.json")).plan_file == Path("plan.json")
    assert Strategies(hot_experts=((None, (0,)),)).may_replicate
    assert Strategies(capacity_factor=1.0).drops_rows
    assert Strategies(capacity_cold=1.0).drops_rows


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"overlap": 1}, "overlap is 1; off, auto or a number of chunks of at least 2"),
        ({"group_size": 0}, "group_size is 0; at least 1"),
        ({"replica_memory": -1}, "replica_memory is -1; at least 0"),
        ({"network_bandwidth": 0.0}, "network_bandwidth is 0.0; a finite number above 0"),
        ({"compute_rate": float("nan")}, "compute_rate is nan"),
        ({"alpha": float("inf")}, "alpha is inf"),
        ({"outgoing_fraction": 1.5}, "outgoing_fraction is 1.5; a fraction from 0 to 1"),
        ({"capacity_cold": -0.5}, "capacity_cold is -0.5"),
        ({"overlap": 4, "group_size": 2}, "overlap 4 cuts the rows into chunks and group_size 2 into groups"),
        ({"placement": "adaptive", "hot_experts": ((None, (0,)),)}, "placement adaptive decides"),
        ({"capacity_min": 8}, "capacity_min 8 needs a capacity factor too"),
    ],
)
def test_what_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Strategies(**values)


def test_messages_name_the_source() -> None:
    with pytest.raises(UsageError, match="FMOE_FASTER_GROUP_SIZE is 0"):
        Strategies(group_size=0, sources={"group_size": "FMOE_FASTER_GROUP_SIZE"})


def test_who_asked_makes_no_difference() -> None:
    """A rank may be told by a flag what another is told by a variable."""
    assert Strategies(overlap="auto", sources={"overlap": "--overlap"}) == Strategies(overlap="auto")


def test_beliefs_of_the_model_are_compared_with_it() -> None:
    mixtral = replace(TINY, dim=4096, hidden_dim=14336)
    assert wrong_beliefs(Strategies(), mixtral) == []
    assert wrong_beliefs(Strategies(alpha=3.5, d_model=4096), mixtral) == []
    width, alpha = wrong_beliefs(Strategies(alpha=2.0, d_model=1024), mixtral)
    assert width == "d_model is 1024, but the model's width is 4096; the checkpoint's is used"
    assert alpha.startswith("alpha is 2, but an expert's hidden width is 3.5 times the model's; ")
