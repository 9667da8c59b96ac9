"""Replicas on their way to their ranks, in the background: fetched, and proved equal to what their owners hold.

A rank fetches an expert from the checkpoint, of which every node has a copy at hand, and not from its owner over the
network that the rows need (docs/strategies.md). Owner and fetcher both take a checksum of the expert as it is in
memory; the replica may be used only if they agree. Reading and summing happen a piece at a time with pauses in
between, so that generation hardly notices.
"""

import atexit
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from mixtralkit.log import get_logger
from mixtralkit.moe.placement.replica import Replica
from mixtralkit.moe.quiet_thread import lower_priority

UNKNOWN, FAILED = -1, -2  # in the place of a checksum
_PIECE, _ROW = 1 << 20, 1 << 14  # bytes that are summed between two pauses, and to one number
_BUSY = 0.05  # the part of the time that goes into summing
_LAST_WAIT = 10.0  # seconds, at the end of the program, for what cannot be interrupted

Fetch = Callable[[int, int], nn.Module]


class Transfer:
    """A rank's part in bringing `replicas` to their ranks; begins at once, in a thread.

    `held` are the experts that this rank owns among those, by layer and expert; `fetch(layer, expert)` gets the ones
    that it is to have. When the program ends it gives up.
    """

    def __init__(
        self, replicas: Sequence[Replica], rank: int, held: Mapping[tuple[int, int], nn.Module], fetch: Fetch
    ) -> None:
        self.replicas = tuple(replicas)
        self.fetched: dict[tuple[int, int], nn.Module] = {}
        self.begin = self.end = time.perf_counter()
        self._rank, self._held, self._fetch = rank, dict(held), fetch
        self._sums = [UNKNOWN] * len(replicas)
        self._finished, self._given_up = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="replicas", daemon=True)
        atexit.register(self.give_up)
        self._thread.start()

    @property
    def finished(self) -> bool:
        """Whether this rank has done its part, or failed to."""
        return self._finished.is_set()

    @property
    def sums(self) -> list[int]:
        """A checksum a replica: `UNKNOWN` where this rank has nothing to do with it, `FAILED` where it failed."""
        return list(self._sums)

    def give_up(self) -> None:
        """Stop soon, and wait for it: a thread that the interpreter's end found in torch's code would abort all."""
        self._given_up.set()
        self._thread.join(_LAST_WAIT)

    def _run(self) -> None:
        try:
            lower_priority()
            self._bring()
        finally:  # what is not summed by then was not fetched
            self.end = time.perf_counter()
            self._finished.set()
            atexit.unregister(self.give_up)

    def _bring(self) -> None:
        """Fetch and sum, one replica after the other."""
        own_sums: dict[tuple[int, int], int] = {}  # an expert may go to several ranks
        for number, (layer, expert, rank) in enumerate(self.replicas):
            try:
                if rank == self._rank:
                    self.fetched[layer, expert] = self._fetch(layer, expert)
                    self._sums[number] = checksum(self.fetched[layer, expert], self._pause)
                elif (layer, expert) in self._held:
                    if (layer, expert) not in own_sums:
                        own_sums[layer, expert] = checksum(self._held[layer, expert], self._pause)
                    self._sums[number] = own_sums[layer, expert]
            except _GivenUp:
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, the old placement stays, and the user hears why
                self._sums[number] = FAILED
                logger = get_logger(__name__)
                logger.warning("a replica of expert %d of layer %d cannot be had: %s", expert, layer, error)

    def _pause(self, seconds: float) -> None:
        if self._given_up.wait(seconds):
            raise _GivenUp


class _GivenUp(Exception):
    """The program ends."""


def checksum(module: nn.Module, pause: Callable[[float], object] = time.sleep) -> int:
    """A checksum of all parameters as they lie in memory, taken with pauses; other bits all but certainly change it.

    `pause` is called with the seconds to wait.
    """
    total = 0
    for parameter in module.parameters():
        content = parameter.detach().contiguous().view(-1).view(torch.uint8)
        for piece in content.split(_PIECE):
            begin = time.perf_counter()
            total = _add(piece.cpu(), total)
            pause((time.perf_counter() - begin) * (1 / _BUSY - 1))
    return total


def _add(piece: torch.Tensor, total: int) -> int:
    """Go on from `total` with some bytes: the CRC-32 of the sums of their rows of 64-bit words, wrapping around, and of
    what is left over. Seven times as fast as the CRC-32 of the bytes.
    """
    whole = len(piece) // _ROW * _ROW
    words = piece[:whole].clone() if piece.data_ptr() % 8 else piece[:whole]
    sums = words.view(torch.int64).view(-1, _ROW // 8).sum(1)
    for part in (sums, piece[whole:]):
        total = zlib.crc32(part.numpy().data, total)
    return total


def failures(replicas: Sequence[Replica], sums_of_ranks: Sequence[Sequence[int]]) -> dict[Replica, str]:
    """What is wrong with which replicas of a transfer that has ended, given the `sums` of all ranks."""
    problems = {}
    for number, replica in enumerate(replicas):
        found = {rank: sums[number] for rank, sums in enumerate(sums_of_ranks) if sums[number] != UNKNOWN}
        own = found.pop(replica.rank, FAILED)
        what = f"expert {replica.expert} of layer {replica.layer} on rank {replica.rank}"
        if own == FAILED or FAILED in found.values() or not found:
            problems[replica] = f"{what} was not fetched"
        elif set(found.values()) != {own}:
            others = " and ".join(f"rank {rank}" for rank, value in found.items() if value != own)
            problems[replica] = f"{what} differs from the one on {others}"
    return problems
