"""Dispatches by name, and the choice among them over a grid of machines."""

import itertools

import pytest

from mixtralkit.dist.topology import Topology
from mixtralkit.errors import UsageError
from mixtralkit.moe.dispatch.choose import DispatchChoice, DispatchFacts, candidates, choose_dispatch

NO_PEER, NO_NCCL = {"peer": "it needs X"}, {"nccl": "it needs Y"}


def facts(device: str, nodes: int, ranks: int, batch: int, problems: dict[str, str]) -> DispatchFacts:
    """`nodes` nodes of `ranks` ranks each."""
    return DispatchFacts(device, Topology(tuple(node for node in range(nodes) for _ in range(ranks))), batch, problems)


# What auto takes: device, nodes, ranks a node, batch, what is not possible, and what it takes then.
GRID = [
    ("cpu", 1, 1, 8, {}, "local"),
    ("cpu", 1, 1, 100, NO_PEER, "local"),
    ("cpu", 1, 2, 1, {}, "peer"),
    ("cpu", 1, 4, 100, {}, "peer"),
    ("cpu", 1, 2, 16, NO_PEER, "all_gather"),
    ("cpu", 1, 2, 17, NO_PEER, "collective"),
    ("cpu", 2, 1, 16, NO_PEER, "all_gather"),
    ("cpu", 2, 1, 17, NO_PEER, "collective"),
    ("cpu", 2, 2, 8, NO_PEER, "all_gather"),
    ("cpu", 8, 1, 8, NO_PEER, "collective"),
    ("cuda", 1, 1, 8, {}, "local"),
    ("cuda", 1, 8, 1, {}, "peer"),
    ("cuda", 1, 8, 100, NO_NCCL, "peer"),
    ("cuda", 1, 8, 1, NO_PEER, "nccl"),
    ("cuda", 1, 8, 1, NO_PEER | NO_NCCL, "collective"),
    ("cuda", 2, 1, 1, NO_PEER, "nccl"),
    ("cuda", 2, 8, 100, NO_PEER | NO_NCCL, "collective"),
]


@pytest.mark.parametrize(("device", "nodes", "ranks", "batch", "problems", "name"), GRID)
def test_what_auto_takes(device: str, nodes: int, ranks: int, batch: int, problems: dict[str, str], name: str) -> None:
    """With a reason."""
    choice = choose_dispatch("auto", facts(device, nodes, ranks, batch, problems))
    assert choice.name == name
    assert choice.why


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_auto_takes_only_what_can_be_used(device: str) -> None:
    """Whatever is impossible, and however many ranks there are; and candidates of a step are as possible."""
    names = ("peer", "nccl")
    sets = [set_ for size in range(3) for set_ in itertools.combinations(names, size)]
    for missing, nodes, ranks, batch in itertools.product(sets, (1, 2, 3), (1, 2, 8), (1, 16, 1000)):
        case = facts(device, nodes, ranks, batch, dict.fromkeys(missing, "it needs X"))
        chosen = choose_dispatch("auto", case).name
        among = candidates("auto", chosen, case)
        assert chosen in among
        assert not set(among) & set(missing)
        assert (chosen == "local") == (nodes * ranks == 1)


def test_the_reason_tells_why_it_is_nothing_better() -> None:
    """With what stands in the way; not where nobody would expect it."""
    choice = choose_dispatch("auto", facts("cuda", 1, 8, 1, NO_PEER | NO_NCCL))
    assert choice.missed == ("not peer: it needs X", "not nccl: it needs Y")
    assert choice.reason == (
        "8 ranks with batches of up to 1: each row travels to its expert only; not peer: it needs X; "
        "not nccl: it needs Y"
    )
    assert choose_dispatch("auto", facts("cpu", 2, 2, 1, NO_PEER)).missed == ()


def test_a_step_may_choose_between_nodes() -> None:
    """Where auto was asked for, and nothing better than messages is there."""
    across = facts("cpu", 2, 1, 1, NO_PEER)
    assert candidates("auto", "all_gather", across) == ("collective", "all_gather")
    assert candidates("collective", "collective", across) == ("collective",)
    assert candidates("auto", "collective", facts("cpu", 2, 4, 100, NO_PEER)) == ("collective", "all_gather")
    gpus = facts("cuda", 2, 8, 1, NO_PEER)
    assert candidates("auto", "nccl", gpus) == ("nccl", "hierarchical")
    assert candidates("auto", "nccl", facts("cuda", 2, 1, 1, NO_PEER)) == ("nccl",)
    assert candidates("auto", "collective", gpus) == ("collective", "all_gather", "hierarchical")
    assert candidates("auto", "peer", facts("cpu", 1, 2, 1, {})) == ("peer",)


def test_an_asked_for_dispatch_is_kept() -> None:
    """`auto` alone chooses."""
    assert choose_dispatch("collective", facts("cpu", 1, 2, 1, {})) == DispatchChoice("collective", "as asked")


def test_names_that_cannot_work_are_refused() -> None:
    """With the ones that can."""
    two = facts("cpu", 1, 2, 1, NO_PEER)
    with pytest.raises(
        UsageError,
        match=r"no dispatch 'colective'; choose one of auto, local, collective, all_gather, hierarchical, peer, nccl",
    ):
        choose_dispatch("colective", two)
    with pytest.raises(UsageError, match="needs all experts on one rank, but there are 2"):
        choose_dispatch("local", two)
    with pytest.raises(UsageError, match="the dispatch 'peer' cannot be used: it needs X; .*--dispatch auto"):
        choose_dispatch("peer", two)
