"""What the watchdog of a rank is told while a session is opened: it ends up in the message of a rank that is stuck."""

from pathlib import Path

import pytest

from mixtralkit.dist.launch import Group, LaunchOptions, start_group
from mixtralkit.session.session import open_session
from mixtralkit.session.settings import SessionSettings

DEMO = Path(__file__).parents[2] / "demo" / "shakespeare"


def test_a_rank_that_compiles_is_not_said_to_load(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(Group, "at", lambda self, where: heard.append(where))
    with start_group(LaunchOptions(device="cpu")) as group:
        open_session(group, SessionSettings(model_weights=DEMO))
    loading, preparing = heard.index("loading"), heard.index("compiling kernels and recording decode steps")
    assert loading < preparing
