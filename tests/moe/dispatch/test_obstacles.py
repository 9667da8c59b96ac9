"""Why a dispatch cannot be used."""

import pytest
import torch

from mixtralkit.moe.dispatch import obstacles
from mixtralkit.moe.dispatch.obstacles import common_reason, why_not_peer

CPU = torch.device("cpu")


def test_where_peer_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reason, in words that fit behind "cannot be used"."""
    monkeypatch.setattr(obstacles.library, "why_not", lambda *_: None)
    assert why_not_peer(CPU, 1) is None
    reasons = [why_not_peer(torch.device("cuda"), 2), why_not_peer(CPU, 3)]
    monkeypatch.setattr(obstacles.library, "why_not", lambda *_: "they have not been built")
    reasons.append(why_not_peer(CPU, 1))
    monkeypatch.setattr(obstacles.sys, "platform", "darwin")
    reasons.append(why_not_peer(CPU, 1))
    assert reasons == [
        "it needs all ranks on one host, and they are on 2",
        "it needs all ranks on one host, and they are on 3",
        "it needs the native kernels: they have not been built",
        "it needs Linux, and this is darwin",
    ]


def test_what_one_rank_cannot_do_none_can() -> None:
    """The rank is named where it is not the same for all."""
    assert common_reason(["it needs X", "it needs X"]) == "it needs X"
    assert common_reason([None, "it needs X"]) == "on rank 1 it needs X"
