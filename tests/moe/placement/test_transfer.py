"""Replicas on their way: fetched in the background, summed as they lie in memory, and believed only if all agree."""

import struct
import sys
import threading
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from mixtralkit.model.moe_ffn import Expert
from mixtralkit.moe import quiet_thread
from mixtralkit.moe.placement.replica import Replica
from mixtralkit.moe.placement.transfer import FAILED, UNKNOWN, Transfer, checksum, failures
from tests.cli.shell import run

REPLICAS = (Replica(0, 1, 0), Replica(0, 1, 2), Replica(3, 2, 0))


def expert(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    made = Expert(16, 24)
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    return made.requires_grad_(False)


def ended(transfer: Transfer) -> Transfer:
    deadline = time.monotonic() + 30
    while not transfer.finished:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return transfer


def raw(module: nn.Module) -> bytes:
    return b"".join(p.contiguous().view(torch.uint8).numpy().tobytes() for p in module.parameters())


def summed(content: bytes) -> int:
    """The checksum by its definition, of the bytes of one parameter, in Python's integers."""
    total = 0
    for piece in (content[at : at + (1 << 20)] for at in range(0, len(content), 1 << 20)):
        rows = [piece[at : at + (1 << 14)] for at in range(0, len(piece), 1 << 14)]
        rest = rows.pop() if len(rows[-1]) < 1 << 14 else b""
        sums = [sum(struct.unpack(f"<{len(row) // 8}q", row)) % (1 << 64) for row in rows]
        total = zlib.crc32(rest, zlib.crc32(struct.pack(f"<{len(sums)}Q", *sums), total))
    return total


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_checksum_is_what_it_says(dtype: torch.dtype) -> None:
    """Of a parameter larger than a piece, of a small one, and of one that does not lie in one stretch."""
    large = nn.Linear(1100, 1000, bias=False, dtype=dtype).requires_grad_(False)
    assert checksum(large) == summed(raw(large))
    small = nn.Linear(5, 3, bias=False, dtype=dtype).requires_grad_(False)
    assert checksum(small) == zlib.crc32(raw(small))
    turned = nn.ParameterList([nn.Parameter(large.weight[:300, :200].t(), requires_grad=False)])
    assert checksum(turned) == summed(raw(turned))


@pytest.mark.parametrize("place", [0, 3, 511, 4095, 70_000, -1])
def test_every_bit_counts(place: int) -> None:
    """Wherever it is, the highest of a word too."""
    module = nn.Linear(1100, 1000, bias=False).requires_grad_(False)
    before = checksum(module)
    for bit in (0, 31):
        module.weight.view(-1).view(torch.int32)[place] ^= 1 << bit if bit < 31 else -(1 << 31)
        assert checksum(module) != before
        module.weight.view(-1).view(torch.int32)[place] ^= 1 << bit if bit < 31 else -(1 << 31)
    assert checksum(module) == before


def test_each_rank_does_its_part() -> None:
    """Rank 0 fetches two replicas; rank 1 sums the one that it owns, once though two ranks get it; rank 2 fetches."""
    owned = expert(7)
    fetched: list[tuple[int, int]] = []

    def fetch(layer: int, number: int) -> nn.Module:
        fetched.append((layer, number))
        return expert(7)

    summed = checksum(owned)
    first = ended(Transfer(REPLICAS, 0, {}, fetch))
    assert fetched == [(0, 1), (3, 2)] == list(first.fetched)
    assert first.sums == [summed, UNKNOWN, summed]
    owner = ended(Transfer(REPLICAS, 1, {(0, 1): owned}, fetch))
    assert owner.sums == [summed, summed, UNKNOWN]
    assert owner.fetched == {}
    assert ended(Transfer(REPLICAS, 2, {(3, 2): owned}, fetch)).sums == [UNKNOWN, summed, summed]
    assert first.begin < first.end


def test_what_fails_is_logged_and_the_others_come_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    def fetch(layer: int, number: int) -> nn.Module:
        if layer == 0:
            raise OSError("the disk is gone")
        return expert()

    transfer = ended(Transfer(REPLICAS, 0, {}, fetch))
    assert transfer.sums == [FAILED, UNKNOWN, checksum(expert())]
    assert list(transfer.fetched) == [(3, 2)]
    assert "a replica of expert 1 of layer 0 cannot be had: the disk is gone" in caplog.text


def test_it_happens_in_the_background_of_a_quiet_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The maker goes on at once, and the thread has given way to others before it fetches."""
    go, order = threading.Event(), []
    monkeypatch.setattr("mixtralkit.moe.placement.transfer.lower_priority", lambda: order.append("lower"))

    def fetch(layer: int, number: int) -> nn.Module:
        order.append(threading.current_thread().name)
        go.wait(30)
        return expert()

    transfer = Transfer(REPLICAS[:1], 0, {}, fetch)
    assert not transfer.finished
    assert transfer.sums == [UNKNOWN]
    go.set()
    ended(transfer)
    assert order == ["lower", "replicas"]


def test_giving_up_does_not_wait_for_all_the_pauses(caplog: pytest.LogCaptureFixture) -> None:
    """To be stopped in the middle of 64 MB is not called a failure."""
    large = nn.ParameterList([nn.Parameter(torch.ones(1 << 24), requires_grad=False)])
    transfer = Transfer(REPLICAS[:1], 1, {(0, 1): large}, lambda layer, number: expert())
    transfer.give_up()
    assert transfer.finished
    assert transfer.sums == [UNKNOWN]
    assert caplog.text == ""


PROGRAM = """
import time, torch
from torch import nn
from mixtralkit.moe.placement.replica import Replica
from mixtralkit.moe.placement.transfer import Transfer

def fetch(layer, expert):
    begun.append(layer)
    a = torch.ones(300, 300)
    for _ in range(300):
        a = a @ a
    return nn.Linear(3000, 3000)

begun = []
Transfer([Replica(0, 0, 0)] * 50, 0, {}, fetch)
while not begun:
    time.sleep(0.001)
"""


def test_the_program_may_end_meanwhile() -> None:
    """Python ends threads that hold nothing of it where they are, which in torch's code aborts the process."""
    done = run([sys.executable, "-c", PROGRAM])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads the priority from Linux's /proc")
def test_only_the_calling_thread_gives_way() -> None:
    def nice_of(thread: int) -> int:
        stat = Path(f"/proc/self/task/{thread}/stat").read_text()
        return int(stat.rpartition(")")[2].split()[16])

    found: list[int] = []

    def work() -> None:
        quiet_thread.lower_priority()
        found.append(nice_of(threading.get_native_id()))

    before = nice_of(threading.get_native_id())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [19]
    assert nice_of(threading.get_native_id()) == before


@pytest.mark.parametrize(
    ("sums_of_ranks", "words"),
    [
        ([[5], [5], [UNKNOWN]], None),
        ([[5], [5], [5]], None),  # two owners
        ([[5], [6], [UNKNOWN]], "expert 1 of layer 0 on rank 0 differs from the one on rank 1"),
        ([[5], [6], [5]], "differs from the one on rank 1"),
        ([[5], [6], [7]], "differs from the one on rank 1 and rank 2"),
        ([[FAILED], [5], [UNKNOWN]], "expert 1 of layer 0 on rank 0 was not fetched"),
        ([[UNKNOWN], [5], [UNKNOWN]], "was not fetched"),
        ([[5], [FAILED], [UNKNOWN]], "was not fetched"),
        ([[5], [UNKNOWN], [UNKNOWN]], "was not fetched"),  # nobody to compare with
    ],
)
def test_a_replica_needs_the_agreement_of_all(sums_of_ranks: Sequence[Sequence[int]], words: str | None) -> None:
    found = failures(REPLICAS[:1], sums_of_ranks)
    assert list(found) == ([] if words is None else [REPLICAS[0]])
    assert words is None or words in found[REPLICAS[0]]


def test_each_failure_is_its_own() -> None:
    found = failures(REPLICAS, [[5, UNKNOWN, 9], [5, 5, UNKNOWN], [UNKNOWN, 6, 9]])
    assert list(found) == [REPLICAS[1]]
