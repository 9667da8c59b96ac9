"""Dispatches by name."""

import pytest

from mixtralkit.errors import UsageError
from mixtralkit.moe.dispatch.choose import choose_dispatch


@pytest.mark.parametrize(
    ("world_size", "batch_size", "name"),
    [(1, 8, "local"), (2, 16, "all_gather"), (2, 17, "collective"), (4, 8, "all_gather"), (8, 8, "collective")],
)
def test_auto(world_size: int, batch_size: int, name: str) -> None:
    """Up to 32 tokens in all are gathered; beyond, rows are exchanged. The reason is told."""
    chosen, reason = choose_dispatch("auto", world_size, batch_size)
    assert chosen == name
    assert reason


def test_an_asked_for_dispatch_is_kept() -> None:
    """`auto` alone chooses."""
    assert choose_dispatch("collective", 2, 1) == ("collective", "as asked")


def test_names_that_cannot_work_are_refused() -> None:
    """With the ones that can."""
    with pytest.raises(UsageError, match=r"no dispatch 'colective'; choose one of auto, local, collective, all_gather"):
        choose_dispatch("colective", 2, 1)
    with pytest.raises(UsageError, match="needs all experts on one rank, but there are 2"):
        choose_dispatch("local", 2, 1)
