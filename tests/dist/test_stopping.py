"""Signals to something like a server: the first lets it finish what it has begun, the second ends it."""

import re
import signal
import sys

import pytest

from tests.dist.processes import KILLED, SERVER, Run, end_session, finish, start, torchrun, wait_for, wait_for_start

TERM, INT = signal.SIGTERM, signal.SIGINT
LAUNCH = """
import sys
from mixtralkit.dist.launcher import NodeOptions, launch_ranks
report = lambda text: print("REPORT " + text, file=sys.stderr)
sys.exit(launch_ranks([sys.executable, *sys.argv[1:]], NodeOptions(nproc=2), report, forward_signals=True))
"""
ALONE = [sys.executable, SERVER]
LAUNCHED = [sys.executable, "-c", LAUNCH, SERVER]
FOR_EVER = ["--drain", "1000"]
DEAF = "import time; print('rank that knows no group', flush=True); time.sleep(1000)"


def stop(command: list[str], *numbers: signal.Signals) -> Run:
    """Send signals to `command`, the second when the first has been heard; nothing may be left of it."""
    process = start(command)
    wait_for_start(process)
    for sent, number in enumerate(numbers):
        if sent:
            wait_for(process, "STOPPING")  # two that come at once are one
        process.send_signal(number)
    (ended,) = finish([process])
    assert not end_session(process)
    return ended


@pytest.mark.parametrize("number", [TERM, INT])
@pytest.mark.parametrize(("command", "ranks"), [(ALONE, 1), (LAUNCHED, 2)])
def test_the_first_signal_lets_the_ranks_finish(command: list[str], ranks: int, number: signal.Signals) -> None:
    ended = stop([*command, "--drain", "1"], number)
    assert ended.status == 0, ended.output
    assert ended.output.count("DRAINED") == ranks


@pytest.mark.parametrize(
    ("command", "first", "second"),
    [(ALONE, TERM, TERM), (ALONE, INT, INT), (LAUNCHED, TERM, INT), (LAUNCHED, INT, TERM)],
)
def test_the_second_signal_ends_them(command: list[str], first: signal.Signals, second: signal.Signals) -> None:
    ended = stop([*command, *FOR_EVER], first, second)
    assert ended.status == 128 + second, ended.output
    assert "DRAINED" not in ended.output
    assert ended.reports == []


def test_ending_torchrun_lets_the_ranks_finish() -> None:
    """It tells each of them; its own exit status is its own affair."""
    ended = stop(torchrun(2, "--drain", "1", program=SERVER), TERM)
    assert ended.output.count("DRAINED") == 2


def test_ranks_that_have_not_come_so_far_are_ended_by_the_first_signal_without_a_word() -> None:
    ended = stop([sys.executable, "-c", LAUNCH, "-c", DEAF], TERM)
    assert (ended.status, ended.reports) == (143, [])


def test_a_rank_lost_while_the_others_finish_is_named() -> None:
    """Torch's launcher sends the others SIGTERM then, which is not the user's second signal."""
    ended = stop([*LAUNCHED, *FOR_EVER, "--fault", "kill"], TERM)
    assert ended.status == 1
    assert len(ended.reports) == 1
    assert re.fullmatch(rf"rank 1 on \S+ \(pid \d+\) {KILLED}; last seen at step 20", ended.reports[0])
