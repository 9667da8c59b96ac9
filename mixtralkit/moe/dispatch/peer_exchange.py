"""A rank's end of the one-sided exchange of csrc/peer: its memory, its numbers, and its patience with the others.

docs/peer_exchange.md tells the protocol. Nothing here is differentiable; peer.py is.
"""

from array import array

import torch

from mixtralkit.dist.collective_error import LateRank
from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.device_choice import own_cores
from mixtralkit.dist.shared_segment import share_segment
from mixtralkit.errors import RankFailure
from mixtralkit.moe.placement.routes import Routes
from mixtralkit.ops import library

_LINE = 64
# The first numbers of the state, as csrc/peer/state.h has them; behind them the counts of this rank's experts (there is
# room for all), then what each rank believes, then the routes.
_STATUS, _AWAITED_RANK, _AWAITED, _BYTES_SENT, _EXCHANGE, _STAGE, _CONFIG = 0, 1, 2, 3, 4, 5, 6
_COUNTS, _BELIEFS = 12, 4
_DONE, _DISAGREE = 0, 2
_AWAITED_WORDS = ("has not begun it", "has not sent the rest of its rows", "has not read the rows sent to it")
_DISPATCH = 1  # the kind of exchange, in what a rank believes
_DTYPES = {5: torch.float16, 6: torch.float32, 7: torch.float64, 15: torch.bfloat16}  # torch's own numbers

_SLICE = 0.2  # seconds that a call waits before Python looks around
_SPIN = 100e-6  # seconds of waiting before the first sleep, where every rank has a core


def slot_bytes_for(ranks: int) -> int:
    """How much of a message a rank can have written before the other reads: 256 KiB, less from 9 ranks on a host.

    There are 16 slots from every rank to every other, so all of them together stay below 256 MiB up to 16 ranks. Memory
    is taken as far as messages reach: a decode step's take a few KiB of each.
    """
    return max(64 << 10, min(256 << 10, (16 << 20) // ranks**2 // _LINE * _LINE))


class PeerExchange:
    """Moves rows between the ranks of `collectives`, all on one host, over memory that they share.

    One call runs at a time, and all ranks make the same calls in the same order. What is in flight between a `send`
    and its `bring_back` is in the tensors that the caller holds. Both raise `LateRank` when a rank does not come
    within the group's time-out, `GroupFailure` when the group fails meanwhile, and `RankFailure` when the ranks mean
    different rows; after an error no exchange is possible any more. Rows of all layers may go through one of these:
    each call says by which `table` (see `peer_table`).
    """

    def __init__(self, collectives: Collectives, num_experts: int, slot_bytes: int) -> None:
        ops = library.ops()
        self.ranks = collectives.size
        self._collectives = collectives
        self._num_experts = num_experts
        memory = bytearray(8 * ops.peer_state_length(collectives.size, num_experts))
        self._state = torch.frombuffer(memory, dtype=torch.int64)
        self._numbers = memoryview(memory).cast("q")  # the same, read by Python without a tensor's ceremony
        self._table: array[int] | None = None
        self._configure(slot_bytes)
        self._slab = share_segment(collectives, ops.peer_segment_bytes(collectives.size, slot_bytes))
        self._dispatch, self._combine = ops.peer_dispatch.default, ops.peer_combine.default

    def send(
        self, x_TD: torch.Tensor, expert_ids_TK: torch.Tensor, weights_TK: torch.Tensor, table: "array[int]"
    ) -> tuple[torch.Tensor, list[int], torch.Tensor]:
        """Send tokens to their experts; returns the rows that came, as `Dispatch.dispatch` promises them, their counts
        and `arrivals`, an int32 tensor that tells `bring_back` whose they are (its form is in csrc/peer/dispatch.h).
        """
        self._begin(table)
        arguments = x_TD, expert_ids_TK, weights_TK
        rows_RD, arrivals = self._dispatch(self._slab, self._state, *arguments, None, None)
        waited = 0
        while self._numbers[_STATUS] != _DONE:
            waited = self._look_around(waited)
            rows_RD, arrivals = self._dispatch(self._slab, self._state, *arguments, rows_RD, arrivals)
        self._end()
        return rows_RD, self._numbers[_COUNTS : _COUNTS + table[self._collectives.rank]].tolist(), arrivals

    def bring_back(
        self,
        rows_RD: torch.Tensor,
        arrivals: torch.Tensor,
        expert_ids_TK: torch.Tensor,
        table: "array[int]",
        *,
        merged: bool,
        weighted: bool = False,
    ) -> torch.Tensor:
        """Send the results of `send`'s rows back to where they came from, by the same table.

        Merged (float32 and a top-k of at most 2), returns the sum of each token's `[T, D]`, weighted as `send` was told
        or with weights of 1; else every result as it is, in the place of its (token, k): `[T * K, D]`.
        """
        self._begin(table)
        arguments = rows_RD, arrivals, expert_ids_TK, merged, weighted
        out: torch.Tensor = self._combine(self._slab, self._state, *arguments, None)
        waited = 0
        while self._numbers[_STATUS] != _DONE:
            waited = self._look_around(waited)
            out = self._combine(self._slab, self._state, *arguments, out)
        self._end()
        return out

    def _configure(self, slot_bytes: int) -> None:
        group = self._collectives
        cores = {core for cores in group.all_gather_json(sorted(own_cores())) for core in cores}
        spin = _SPIN if group.size <= len(cores) else 0.0
        config = [group.rank, group.size, slot_bytes, self._num_experts, round(spin * 1e9), round(_SLICE * 1e9)]
        self._numbers[_CONFIG : _CONFIG + len(config)] = array("q", config)

    def _begin(self, table: "array[int]") -> None:
        if self._numbers[_STATUS] != _DONE or self._numbers[_STAGE]:
            raise RankFailure("an earlier exchange of rows between the ranks was given up; start them again")
        if table is not self._table:
            at = self._beliefs_at(self.ranks)
            self._numbers[at : at + len(table)] = table
            self._table = table
        self._collectives.calls += 1

    def _end(self) -> None:
        self._collectives.bytes_sent += self._numbers[_BYTES_SENT]
        self._numbers[_BYTES_SENT] = 0

    def _look_around(self, slices: int) -> int:
        """After a slice of waiting in vain, `slices` before it: is there hope? Returns how many they are now.

        Slices are counted, and no clock is read, so that a rank that was stopped itself gives the others their time.
        """
        if self._numbers[_STATUS] == _DISAGREE:
            raise RankFailure(self._disagreement())
        self._collectives.check()
        if (slices + 1) * _SLICE < self._collectives.timeout:
            return slices + 1
        awaited = _AWAITED_WORDS[self._numbers[_AWAITED]]
        raise LateRank(
            f"rank {self._collectives.rank} has waited {self._collectives.timeout:.0f} s for rank "
            f"{self._numbers[_AWAITED_RANK]} in exchange {self._numbers[_EXCHANGE]} of rows: it {awaited}"
        )

    def _disagreement(self) -> str:
        beliefs = [self._beliefs(rank) for rank in range(self._collectives.size)]
        other = next(rank for rank, held in enumerate(beliefs) if held != beliefs[0])
        return f"rank {other} {beliefs[other]}, rank 0 {beliefs[0]}; the ranks run different models"

    def _beliefs(self, rank: int) -> str:
        at = self._beliefs_at(rank)
        kind, width, dtype, top_k = self._numbers[at : at + _BELIEFS].tolist()
        does = "sends" if kind == _DISPATCH else "brings back"
        return f"{does} rows of {width} x {_DTYPES.get(dtype, dtype)}, {top_k} for a token"

    def _beliefs_at(self, rank: int) -> int:
        """Where the numbers of what `rank` believes begin; behind those of all ranks comes the table of routes."""
        return _COUNTS + self._num_experts + _BELIEFS * rank


def peer_table(routes: Routes) -> "array[int]":
    """`routes` as the exchange reads them: by rank how many experts it holds, then by expert where its rows go, then
    its number there.
    """
    placement = routes.placement
    held = [len(placement.experts_of(rank)) for rank in range(routes.world_size)]
    index_of = [placement.experts_of(owner).index(expert) for expert, owner in enumerate(routes.owner_E)]
    return array("q", [*held, *routes.owner_E, *index_of])
