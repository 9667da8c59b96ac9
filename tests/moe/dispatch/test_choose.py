"""Dispatches by name."""

import pytest
import torch

from mixtralkit.errors import UsageError
from mixtralkit.moe.dispatch import choose
from mixtralkit.moe.dispatch.choose import choose_dispatch, why_not_peer

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("world_size", "batch_size", "name"),
    [(1, 8, "local"), (2, 16, "all_gather"), (2, 17, "collective"), (4, 8, "all_gather"), (8, 8, "collective")],
)
def test_auto_without_peer(world_size: int, batch_size: int, name: str) -> None:
    """Up to 32 tokens in all are gathered; beyond, rows are exchanged. The reason is told."""
    chosen, reason = choose_dispatch("auto", world_size, batch_size, "it needs all ranks on one host")
    assert chosen == name
    assert reason


@pytest.mark.parametrize("batch_size", [1, 100])
def test_auto_takes_peer_where_it_can(batch_size: int) -> None:
    """At every size but one rank, where nothing travels."""
    assert choose_dispatch("auto", 2, batch_size, None)[0] == "peer"
    assert choose_dispatch("auto", 1, batch_size, None)[0] == "local"


def test_where_peer_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reason, in words that fit behind "cannot be used"; asked for all the same, it is refused with the reason."""
    monkeypatch.setattr(choose.library, "why_not", lambda: None)
    assert why_not_peer(CPU, 1) is None
    reasons = [why_not_peer(torch.device("cuda"), 1), why_not_peer(CPU, 3)]
    monkeypatch.setattr(choose.library, "why_not", lambda: "they have not been built")
    reasons.append(why_not_peer(CPU, 1))
    monkeypatch.setattr(choose.sys, "platform", "darwin")
    reasons.append(why_not_peer(CPU, 1))
    assert reasons == [
        "it moves rows between CPUs, and this run is on cuda",
        "it needs all ranks on one host, and they are on 3",
        "it needs the native kernels: they have not been built",
        "it needs Linux, and this is darwin",
    ]
    with pytest.raises(UsageError, match="the dispatch 'peer' cannot be used: it needs Linux.*--dispatch auto"):
        choose_dispatch("peer", 2, 1, reasons[-1])


def test_an_asked_for_dispatch_is_kept() -> None:
    """`auto` alone chooses."""
    assert choose_dispatch("collective", 2, 1, None) == ("collective", "as asked")


def test_names_that_cannot_work_are_refused() -> None:
    """With the ones that can."""
    with pytest.raises(
        UsageError, match=r"no dispatch 'colective'; choose one of auto, local, collective, all_gather, peer"
    ):
        choose_dispatch("colective", 2, 1, None)
    with pytest.raises(UsageError, match="needs all experts on one rank, but there are 2"):
        choose_dispatch("local", 2, 1, None)
