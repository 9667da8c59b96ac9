"""When requests are sent, and what becomes of those that a deadline cuts off; nothing goes over a network."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mixtralkit.bench.load.answer_stream import Answer
from mixtralkit.bench.load.load_client import Failure
from mixtralkit.bench.load.load_prompts import LoadRequest
from mixtralkit.bench.load.load_run import LoadCounts, LoadRun, within

REQUESTS = [LoadRequest(str(number), 1) for number in range(6)]


class Peer:
    """Answers when it is told to, or after the loop has gone round a few times; notes who was under way."""

    def __init__(self, answers: int = 99) -> None:
        self.answers = answers
        self.started: list[tuple[str, float]] = []
        self.under_way = self.most = 0

    async def send(self, request: LoadRequest, started: float) -> Answer | Failure:
        self.started.append((str(request.prompt), started))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await (asyncio.sleep(0) if len(self.started) <= self.answers else asyncio.Event().wait())
        self.under_way -= 1
        return Answer(started, 1.0, 1.0, (), 1, 1, 1, True)


def run(
    work: Callable[[LoadRun], Awaitable[None]], peer: Peer, deadline: float | None = None
) -> tuple[LoadRun, LoadCounts]:
    async def all_of_it() -> tuple[LoadRun, LoadCounts]:
        counts = LoadCounts()
        loop = asyncio.get_running_loop()
        begin = loop.time()
        load = LoadRun(peer.send, lambda: loop.time() - begin, counts, lambda: None)
        await within(work(load), deadline, asyncio.Event())
        return load, counts

    return asyncio.run(all_of_it())


def test_so_many_are_under_way_and_all_are_sent_in_order() -> None:
    peer = Peer()
    load, counts = run(lambda load: load.at_most(REQUESTS, 2), peer)
    assert peer.most == 2
    assert [name for name, _ in peer.started] == [str(number) for number in range(6)]
    assert counts == LoadCounts(running=0, answered=6)
    assert len(load.results) == 6


def test_more_at_a_time_than_there_are() -> None:
    peer = Peer()
    run(lambda load: load.at_most(REQUESTS, 50), peer)
    assert peer.most == 6


def test_arrivals_do_not_wait_for_each_other_and_count_from_their_own_times() -> None:
    """The first never ends; the others are sent all the same, and none of them counts from later than it arrived."""
    peer = Peer(answers=0)
    arrivals = [0.0, 0.001, 0.002, 0.003, 0.004, 0.005]
    load, _ = run(lambda load: load.at_times(REQUESTS, arrivals), peer, deadline=0.3)
    assert peer.started == [(str(number), at) for number, at in enumerate(arrivals)]
    assert {result.kind for result in load.results if isinstance(result, Failure)} == {"unfinished"}


def test_a_deadline_cuts_off_what_is_under_way_and_sends_no_more() -> None:
    peer = Peer(answers=3)
    load, counts = run(lambda load: load.at_most(REQUESTS, 2), peer, deadline=0.05)
    kinds = [result.kind if isinstance(result, Failure) else "answer" for result in load.results]
    assert kinds == ["answer"] * 3 + ["unfinished"] * 2
    assert counts == LoadCounts(running=0, answered=3, failed=2)


def test_a_bug_in_a_request_ends_the_run() -> None:
    async def broken(request: LoadRequest, started: float) -> Answer:
        raise ZeroDivisionError

    async def all_of_it() -> None:
        load = LoadRun(broken, lambda: 0.0, LoadCounts(), lambda: None)
        await within(load.at_most(REQUESTS, 2), None, asyncio.Event())

    with pytest.raises(ZeroDivisionError):
        asyncio.run(all_of_it())
