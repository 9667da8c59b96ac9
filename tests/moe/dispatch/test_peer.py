"""What the battery does not show of the peer dispatch: faults, pauses, and what is left behind."""

import os
import re
import signal
import sys
from pathlib import Path
from types import FrameType

import pytest
import torch

from mixtralkit.dist.collective_error import LateRank
from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology
from mixtralkit.errors import RankFailure
from mixtralkit.moe.dispatch import peer_exchange
from mixtralkit.moe.dispatch.peer import PeerDispatch
from mixtralkit.moe.dispatch.peer_exchange import PeerExchange, slot_bytes_for
from mixtralkit.moe.placement.plan import even_split
from mixtralkit.moe.placement.routes import routes_of
from mixtralkit.moe.routing import Routing
from tests.dispatches import PEER
from tests.dist.processes import KILLED, PATIENCE, Run, end_session, finish, start
from tests.moe.dispatch.battery import Case, inputs
from tests.ranks import run_ranks

pytestmark = pytest.mark.skipif(not PEER, reason="there is no peer dispatch here")
RANK_1 = r"rank 1 on \S+ \(pid \d+\)"


def _dispatch(collectives: Collectives, slot_bytes: int = 4096) -> PeerDispatch:
    routes = routes_of(even_split(4, collectives.size), Topology((0,) * collectives.size), collectives.rank)
    return PeerDispatch(PeerExchange(collectives, 4, slot_bytes), routes)


def _routing(tokens: int) -> Routing:
    """Every token goes to experts 0 and 3, which are the first and the last rank's."""
    return Routing(torch.tensor([[0, 3]]).repeat(tokens, 1), torch.full((tokens, 2), 0.5))


def test_a_rank_that_does_not_come_is_named() -> None:
    """Within the time-out of the group, and with what it was waited for; no exchange is possible afterwards."""
    messages = run_ranks(2, _wait_in_vain)
    assert messages[0] == [
        "rank 0 has waited 1 s for rank 1 in exchange 2 of rows: it has not begun it",
        "an earlier exchange of rows between the ranks was given up; start them again",
    ]


def _wait_in_vain(collectives: Collectives) -> list[str]:
    dispatch, routing = _dispatch(collectives), _routing(3)
    rows, _, handle = dispatch.dispatch(torch.ones(3, 16), routing)
    dispatch.combine(rows, handle)
    if collectives.rank == 1:
        return []
    collectives.timeout = 1.0
    messages = []
    for kind in (LateRank, RankFailure):
        with pytest.raises(kind) as error:
            dispatch.dispatch(torch.ones(3, 16), routing)
        messages.append(str(error.value))
    return messages


def test_ranks_that_disagree_about_a_row_say_so() -> None:
    """The same words on all ranks."""
    messages = run_ranks(3, _disagree)
    theirs, ours = "rows of 8 x torch.bfloat16, 2 for a token", "rows of 4 x torch.float32, 2 for a token"
    assert set(messages) == {f"rank 2 sends {theirs}, rank 0 sends {ours}; the ranks run different models"}


def _disagree(collectives: Collectives) -> str:
    x = torch.ones(1, 8, dtype=torch.bfloat16) if collectives.rank == 2 else torch.ones(1, 4)
    with pytest.raises(RankFailure) as error:
        _dispatch(collectives).dispatch(x, _routing(1))
    return str(error.value)


def test_an_exchange_that_pauses_all_the_time_comes_to_the_same() -> None:
    """In slices of a nanosecond every wait is a pause, and slots of a few rows make many of them, in every stage."""
    case = Case("paused", 4, 2, (40, 3, 60))
    for rank, out in enumerate(run_ranks(3, _paused, case)):
        torch.testing.assert_close(out, inputs(case, rank).x_TD)  # its weights add up to 1, but for a rounding


def _paused(collectives: Collectives, case: Case) -> torch.Tensor:
    peer_exchange._SLICE = 1e-9
    dispatch = _dispatch(collectives, slot_bytes=512)
    given = inputs(case, collectives.rank)
    rows, _, handle = dispatch.dispatch(given.x_TD, given.routing)
    return dispatch.combine(rows, handle)


def test_more_ranks_than_cores_sleep_at_once() -> None:
    """Three ranks on one core: a rank that spun would keep the others from what it waits for."""
    assert run_ranks(3, _on_one_core) == [0, 0, 0]


def _on_one_core(collectives: Collectives) -> int:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    dispatch, routing = _dispatch(collectives), _routing(5)
    for _ in range(200):
        rows, _, handle = dispatch.dispatch(torch.ones(5, 16), routing)
        dispatch.combine(rows, handle)
    return dispatch._exchange._numbers[10]  # nanoseconds of spinning


def test_a_signal_is_heard_while_waiting() -> None:
    """Ctrl-C ends a rank whose peer does not come, long before the time-out."""
    assert run_ranks(2, _interrupted) == ["interrupted", "not waiting"]


class _Interrupted(Exception):
    pass


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise _Interrupted


def _interrupted(collectives: Collectives) -> str:
    dispatch = _dispatch(collectives)
    if collectives.rank == 1:
        return "not waiting"
    signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    with pytest.raises(_Interrupted):
        dispatch.dispatch(torch.ones(1, 16), _routing(1))
    return "interrupted"


def test_slots_shrink_with_the_number_of_ranks() -> None:
    """All slots of a host take at most 256 MiB with up to 16 ranks; a row of 16,000 floats fits in any."""
    sizes = {ranks: slot_bytes_for(ranks) for ranks in (1, 2, 8, 9, 16, 64, 200)}
    assert sizes[2] == sizes[8] == 256 << 10
    assert all(size % 64 == 0 and size >= 4 * 16_000 for size in sizes.values())
    assert all(16 * ranks**2 * size <= 256 << 20 for ranks, size in sizes.items() if ranks <= 16)


def _run(mode: str, ranks: int, timeout: float) -> Run:
    """Real ranks under torchrun, of which rank 1 misbehaves; nothing of them is left, in /dev/shm neither."""
    program = str(Path(__file__).with_name("peer_program.py"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    process = start([*torchrun, program, mode, "1", str(timeout)])
    (ended,) = finish([process])
    assert not end_session(process)
    shared = [line for line in ended.output.splitlines() if re.match(r"rank \d has \[", line)]
    assert len(shared) == ranks
    assert not any("mixtralkit" in line for line in shared), "the memory has a name, which could be left behind"
    assert not [name for name in os.listdir("/dev/shm") if "mixtralkit" in name]
    return ended


def test_a_killed_rank_is_named_long_before_the_time_out() -> None:
    """The watchdog knows at once; without asking it, the others would wait for longer than this test has patience."""
    ended = _run("kill", 3, 2 * PATIENCE)
    assert ended.status == 1
    assert len(ended.reports) == 1
    assert re.fullmatch(RANK_1 + rf" {KILLED}; last seen at step 5", ended.reports[0])


def test_a_stopped_rank_is_named() -> None:
    ended = _run("stop", 2, 6)
    assert ended.status == 1
    assert len(ended.reports) == 1
    assert re.fullmatch(
        RANK_1 + r" has not answered for \d+ s \(its process is stopped\); last seen at step 5", ended.reports[0]
    )


def test_a_late_rank_is_told_from_those_that_wait_for_it() -> None:
    ended = _run("sleep", 3, 4)
    assert ended.status == 1
    assert len(ended.reports) == 1
    assert re.fullmatch(
        RANK_1 + r" has not come to a collective within its time-out; last seen at step 5", ended.reports[0]
    )
