"""csrc/nccl and moe/dispatch/nccl_exchange.py over a library that stands in for NCCL, and as far as it goes over NCCL.

The stand-in carries bytes between real processes and is as strict as NCCL, so offsets, order, time-outs, errors and
what is left behind are those of the real thing; streams, and NCCL itself, are not: see test_nccl_on_gpu.py.
"""

import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mixtralkit.dist.collective_error import BrokenExchange, LateRank, is_collective_error
from mixtralkit.dist.collectives import Collectives
from mixtralkit.errors import LaunchError
from mixtralkit.moe.dispatch import nccl_library
from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.dispatch.fixed import FixedDispatch
from mixtralkit.moe.dispatch.nccl import NcclDispatch
from mixtralkit.moe.dispatch.nccl_exchange import NcclExchange
from mixtralkit.moe.dispatch.row_mover import Piece, RowMover, even_pieces
from mixtralkit.ops import library
from tests.moe.dispatch.battery import Case, cases, expected_results, expected_rows, names_of, run_case
from tests.moe.dispatch.fake_nccl import FakeNccl, compile_fake
from tests.ranks import run_ranks

CPU = torch.device("cpu")
KINDS: dict[str, type[NcclDispatch] | type[FixedDispatch]] = {"nccl": NcclDispatch, "fixed": FixedDispatch}


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compile_fake(tmp_path_factory.mktemp("fake"))


@pytest.mark.parametrize("size", [2, 3])
def test_the_battery(fake: str, size: int) -> None:
    """Rows and counts bit for bit, results and gradients as loops in float64 have them; and nothing is left behind."""
    seen = run_ranks(size, _battery, fake)
    for case in cases(size):
        answers = expected_results(case)
        for name in names_of(case, [*KINDS]):
            for rank, (results, _) in enumerate(seen):
                rows, counts = expected_rows(case, rank)
                assert results[name, case.name]["counts"] == counts
                stacked = torch.stack(rows) if rows else torch.empty(0, case.width, dtype=case.dtype)
                assert torch.equal(results[name, case.name]["rows"], stacked)
                # The tolerances of test_battery.py, which runs these cases over gloo with every number compared.
                near = 4e-2 if case.dtype is torch.bfloat16 else 2e-5
                torch.testing.assert_close(
                    results[name, case.name]["out"].double(), answers[rank]["out"], atol=near, rtol=near
                )
    assert [counts for _, counts in seen] == [(0, 0, 0)] * size


def _battery(collectives: Collectives, fake: str) -> tuple[dict[tuple[str, str], dict[str, Any]], tuple[int, int, int]]:
    nccl = FakeNccl(fake)
    exchange = NcclExchange(collectives, CPU)

    def make(name: str, case: Case) -> Dispatch:
        return KINDS[name](exchange, case.routes(collectives.rank), CPU)

    seen = {
        (name, case.name): run_case(collectives, make(name, case), case)
        for case in cases(collectives.size)
        for name in names_of(case, [*KINDS])
    }
    exchange.close()
    return seen, nccl.counts


def test_ranks_that_send_something_else_than_is_expected_are_told(fake: str) -> None:
    """The stand-in compares sizes, so the battery's passing means that both ends name the same pieces."""
    assert run_ranks(2, _unequal, fake)[1].endswith("a message of 8 bytes, and not 16")


def _unequal(collectives: Collectives, fake: str) -> str:
    FakeNccl(fake)
    exchange = NcclExchange(collectives, CPU)
    if collectives.rank == 0:
        exchange.move(torch.zeros(1, 2), [Piece(1, 0, 1)], [], 0)
        return ""
    with pytest.raises(BrokenExchange) as error:
        exchange.move(torch.zeros(1, 2), [], [Piece(0, 0, 2)], 2)
    return str(error.value)


def test_a_rank_that_does_not_come_ends_the_exchange_in_time(fake: str) -> None:
    """The communicator is aborted, is of no use any more, and says so; the watchdog looks for who was late."""
    for rank, (late, after) in enumerate(run_ranks(2, _late, fake)):
        assert late == f"rank {rank} has waited 1 s for the other ranks in an exchange over NCCL"
        assert after.endswith(f"rank {rank} of 2 has closed its communicator or given it up")


def _late(collectives: Collectives, fake: str) -> list[str]:
    nccl = FakeNccl(fake)
    exchange = NcclExchange(collectives, CPU)
    collectives.timeout = 1.0
    nccl.goes_wrong("late")
    messages = []
    for kind in (LateRank, BrokenExchange):
        with pytest.raises(kind) as error:
            _some_exchange(exchange)
        assert is_collective_error(error.value)
        messages.append(str(error.value))
    assert nccl.counts == (0, 1, 0)
    return messages


def _some_exchange(mover: RowMover) -> torch.Tensor:
    pieces = even_pieces(mover.size, 1)
    return mover.move(torch.zeros(mover.size, 4), pieces, pieces, mover.size)


def test_counts_that_do_not_come_are_not_waited_for_without_end(fake: str) -> None:
    assert run_ranks(1, _hung, fake) == ["rank 0 has waited 1 s for the other ranks in an exchange over NCCL"]


def _hung(collectives: Collectives, fake: str) -> str:
    nccl = FakeNccl(fake)
    exchange = NcclExchange(collectives, CPU)
    gathered = exchange.all_gather(torch.ones(3))
    assert torch.equal(exchange.on_host(gathered), torch.ones(1, 3))
    collectives.timeout = 1.0
    nccl.goes_wrong("hung")
    with pytest.raises(LateRank) as error:
        exchange.on_host(gathered)
    assert nccl.counts == (0, 1, 0)
    return str(error.value)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("broken", "says: remote process exited or there was a network error; the other end is gone"),
        ("refused", "says: invalid argument; a peer that there is not"),
    ],
)
def test_an_error_has_its_own_words_and_what_was_being_done(fake: str, how: str, words: str) -> None:
    """With the rank; everything is freed, also where a call in the middle of a group was the one that failed."""
    for rank, message in enumerate(run_ranks(2, _failing, fake, how)):
        assert f"rank {rank} of 2 could not exchange rows: NCCL " in message
        assert message.endswith(words)


def _failing(collectives: Collectives, fake: str, how: str) -> str:
    nccl = FakeNccl(fake)
    exchange = NcclExchange(collectives, CPU)
    nccl.goes_wrong(how)
    with pytest.raises(BrokenExchange) as error:
        _some_exchange(exchange)
    assert nccl.counts == (0, 1, 0)
    return str(error.value)


def test_a_group_that_has_failed_is_not_waited_for(fake: str) -> None:
    """What `check` raises comes through, and the communicator is aborted."""
    run_ranks(1, _checked, fake)


class _GroupIsOver(Exception):
    pass


def _checked(collectives: Collectives, fake: str) -> None:
    def check() -> None:
        raise _GroupIsOver

    nccl = FakeNccl(fake)
    exchange = NcclExchange(collectives, CPU)
    collectives.timeout, collectives.check = math.inf, check
    nccl.goes_wrong("late")
    with pytest.raises(_GroupIsOver):
        _some_exchange(exchange)
    assert nccl.counts == (0, 1, 0)


def test_a_forgotten_communicator_is_freed(fake: str) -> None:
    assert run_ranks(1, _forgotten, fake) == [(0, 1, 0)]


def _forgotten(collectives: Collectives, fake: str) -> tuple[int, int, int]:
    nccl = FakeNccl(fake)
    exchange = NcclExchange(collectives, CPU)
    nccl.goes_wrong("late")  # its end is not waited for
    assert nccl.counts == (1, 0, 0)
    del exchange
    return nccl.counts


def test_graphs_that_are_still_there_hold_nobody_up(fake: str) -> None:
    """NCCL aborts only when no CUDA graph holds work of the communicator, and who has the graphs may be waiting."""
    ((at_once, at_last),) = run_ranks(1, _held, fake)
    assert at_once == (1, 0, 0)
    assert at_last == (0, 1, 0)


def _held(collectives: Collectives, fake: str) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    nccl = FakeNccl(fake)
    exchange = NcclExchange(collectives, CPU)
    nccl.goes_wrong("held")
    del exchange
    at_once = nccl.counts
    nccl.goes_wrong("")
    while nccl.counts[0]:
        time.sleep(0.001)
    return at_once, nccl.counts


def test_ranks_with_different_versions_do_not_join(fake: str) -> None:
    """The same words on all ranks."""
    (message,) = set(run_ranks(3, _versions, fake))
    assert message.startswith("the ranks do not agree: NCCL is 2.27.5 for rank 0, rank 2, 2.30.7 for rank 1. ")


def _versions(collectives: Collectives, fake: str) -> str:
    FakeNccl(fake, 23007 if collectives.rank == 1 else 22705)
    with pytest.raises(LaunchError) as error:
        NcclExchange(collectives, CPU)
    return str(error.value)


@pytest.mark.parametrize(("version", "is_what"), [(30001, ", of another major version"), (2708, ", older than 2.14.0")])
def test_a_library_that_does_not_go_with_the_header_is_refused(fake: str, version: int, is_what: str) -> None:
    """Both versions are named."""
    (problem,) = run_ranks(1, _why_not, fake, version)
    header = nccl_library.version_text(library.ops(library.NCCL).nccl_header_version())
    found = {30001: "3.0.1", 2708: "2.7.8"}[version]
    assert f"compiled with the header of NCCL {header}, and the library is {found}{is_what}: " in problem
    assert problem.endswith(fake)


def _why_not(collectives: Collectives, fake: str, version: int) -> str | None:
    FakeNccl(fake, version)
    return nccl_library.why_not_library()


def test_versions_and_the_path_are_told(fake: str) -> None:
    """The path is the one of the file that was loaded, as the loader has it."""
    (facts,) = run_ranks(1, _facts, fake)
    header = nccl_library.version_text(library.ops(library.NCCL).nccl_header_version())
    assert (facts.header, facts.found, facts.path) == (header, "2.28.9", fake)
    assert facts.mismatch is None or "have found 2.28.9" in facts.mismatch


def _facts(collectives: Collectives, fake: str) -> nccl_library.NcclFacts:
    FakeNccl(fake, 22809)
    return nccl_library.nccl_facts()


def test_without_any_nccl_the_loader_s_words_are_told(tmp_path: Path) -> None:
    if library.why_not(library.NCCL) is not None:
        pytest.skip(str(library.why_not(library.NCCL)))
    (problem,) = run_ranks(1, _absent, str(tmp_path / "absent.so"))
    assert problem is None or "absent.so: cannot open shared object file" in problem


def _absent(collectives: Collectives, path: str) -> str | None:
    nccl_library._packaged = lambda: path
    return nccl_library.why_not_library()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_nccl_itself_says_that_there_is_no_gpu() -> None:
    """A real error of the real library: its words, what was being done, no hang, and ids are still to be had."""
    if (problem := nccl_library.why_not_library()) is not None:
        pytest.skip(problem)
    (message,) = run_ranks(1, _without_gpu)
    assert message.startswith("the ranks cannot talk over NCCL: ")
    assert "rank 0 of 1 could not join the other ranks: NCCL 2." in message
    assert "says: unhandled cuda error" in message
    assert message.endswith("; use --dispatch collective")


def _without_gpu(collectives: Collectives) -> str:
    with pytest.raises(LaunchError) as error:
        NcclExchange(collectives, CPU)
    ops = library.ops(library.NCCL)
    ids = [ops.nccl_unique_id().tolist() for _ in range(2)]
    assert ids[0] != ids[1]
    return str(error.value)
