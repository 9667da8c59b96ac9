"""Clients are told that the group has failed, soon and once, and the process ends whatever comes of it."""

import re
import signal
import threading

import pytest

from mixtralkit.dist.announcement import Announcement
from tests.dist.processes import KILLED, SERVER, Run, finish, start_by_hand

ANNOUNCED = re.compile(r"ANNOUNCED (\S+) (.*)")
PROMISED = 2.0  # seconds from the fault to the end of every request


def run_server(*arguments: str) -> tuple[Run, Run]:
    first, second = finish(start_by_hand(2, *arguments, program=SERVER))
    return first, second


@pytest.mark.parametrize("busy", [[], ["--busy"]])
def test_a_killed_rank_is_announced_by_name_within_the_time_promised(busy: list[str]) -> None:
    """Also by a rank whose main thread is in a step that takes a minute, and cannot learn of it."""
    first, second = run_server("--fault", "kill", *busy)
    assert (first.status, second.status) == (1, -signal.SIGKILL)
    ((announced, words),) = ANNOUNCED.findall(first.output)
    assert re.fullmatch(rf"rank 1 on \S+ \(pid \d+\) {KILLED}; last seen at step 20", words)
    assert first.reports == [words]
    (fault,) = re.findall(r"FAULT (\S+)", second.output)
    assert float(announced) - float(fault) < PROMISED


def test_an_exception_is_announced_on_all_ranks() -> None:
    runs = run_server("--fault", "raise")
    assert [run.status for run in runs] == [1, 1]
    for run in runs:
        ((_, words),) = ANNOUNCED.findall(run.output)
        assert re.match(r"rank 1 on \S+ \(pid \d+\) failed: ValueError: the root cause; ", words)


@pytest.mark.parametrize("announce", ["hang", "raise"])
def test_an_announcement_that_goes_wrong_does_not_keep_the_rank(announce: str) -> None:
    first, _ = run_server("--fault", "kill", "--announce", announce)
    assert first.status == 1
    assert len(first.reports) == 1


def test_it_is_made_once_and_all_who_would_make_it_wait_until_it_is_made() -> None:
    said, made = list[str](), list[int]()
    may_end = threading.Event()

    def announce(words: str) -> None:
        may_end.wait()
        said.append(words)

    def make(words: str) -> None:
        announcement.make(words)
        made.append(len(said))

    announcement = Announcement(announce)
    threads = [threading.Thread(target=make, args=("the same words",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    may_end.set()
    for thread in threads:
        thread.join()
    assert said == ["the same words"]
    assert made == [1, 1, 1]


def test_nobody_need_be_told() -> None:
    Announcement(None).make("words")
