"""A rank's end of the exchange of csrc/split: its slab, its numbers, and what a failure that the device noted means.

docs/peer_exchange.md tells the protocol. The four steps are kernels on the current stream; nothing here waits for one.
On the CPU the same steps run over shared memory, and do wait: that is for tests. Nothing here is differentiable;
cuda_peer.py is.
"""

from dataclasses import dataclass

import torch

from mixtralkit.dist.collective_error import LateRank
from mixtralkit.dist.collectives import Collectives
from mixtralkit.errors import RankFailure
from mixtralkit.moe.dispatch.cuda_slabs import share_slabs
from mixtralkit.moe.placement.routes import Routes
from mixtralkit.ops import library

REGION_BYTES = 4 << 20  # of one message of rows: 500 tokens of 4096 numbers of 16 bits; two for each pair of ranks
_OWN, _REPORT = 8, 16  # lengths, as csrc/split/exchange.h has them, and the places in the report
_WHAT, _RANK, _WORD, _NUMBER, _THEIRS = 0, 1, 2, 3, 4
_LATE, _DISAGREE = 1, 2
_LATE_WORDS = (
    "dispatch {}: it has not sent its rows",
    "dispatch {}: it has not read the rows sent to it",
    "combine {}: it has not sent its results back",
    "combine {}: it has not read the results sent to it",
)
_DTYPES = {torch.float16: 5, torch.float32: 6, torch.bfloat16: 15}  # torch's own numbers


@dataclass(frozen=True)
class RouteTable:
    """Routes as the steps read them, int32 `[E + E + e]`: by expert the rank that gets its rows, by expert its number
    there, and this rank's experts, of which there are `num_local`.
    """

    numbers: torch.Tensor
    num_local: int


@dataclass(frozen=True)
class Arrival:
    """What one exchange brought, all on the device.

    `rows_RD` has room for more rows than came. Of each that came `origins_R` (int32) has the rank and the (token, k);
    `counts_e` (int64) says how many came for each expert. `told` (int64 `[W + e * W]`): by rank the tokens of its
    whole call, then by expert and rank the rows.
    """

    rows_RD: torch.Tensor
    origins_R: torch.Tensor
    counts_e: torch.Tensor
    told: torch.Tensor


class CudaPeerExchange:
    """Moves rows between the ranks of `collectives`, all on one host, by writing into the memory of their GPUs.

    All ranks make the same calls in the same order, on one stream. `send` and `receive` may have other work between
    them, and so may `send_back` and `receive_back`; two of each may be sent and not received yet, not more. What is in
    flight is in the tensors that the caller holds.

    A rank that does not come within the group's time-out is noted by the device, which does nothing more: `check`
    then raises `LateRank` naming it. `fp8` sends tokens (but not results) in 8 bits, which changes the text.
    """

    def __init__(
        self, collectives: Collectives, num_experts: int, rows_bytes: int = REGION_BYTES, *, fp8: bool = False
    ) -> None:
        on_cpu = collectives.device.type == "cpu"
        self._ops = library.ops(library.CPU if on_cpu else library.CUDA)
        self.collectives = collectives
        results_bytes = 2 * rows_bytes
        self._slabs = share_slabs(collectives, self._ops.split_slab_bytes(collectives.size, rows_bytes, results_bytes))
        timeout_ns = round(collectives.timeout * 1e9)
        sizes = [collectives.rank, collectives.size, num_experts, rows_bytes, results_bytes, timeout_ns, int(fp8)]
        config = torch.tensor([*sizes, *self._slabs.addresses])
        own = torch.zeros(_OWN, dtype=torch.int64, device=collectives.device)
        # The host reads the report at any time, without waiting for the device.
        self._report = torch.zeros(_REPORT, dtype=torch.int64, pin_memory=not on_cpu)
        self._common = config, own, self._report

    def capacity(self, width: int, dtype: torch.dtype, top_k: int) -> int:
        """How many tokens one exchange can take from a rank; the same on all ranks."""
        size = torch.empty(0, dtype=dtype).element_size()
        return int(self._ops.split_capacity(self._common[0], width, size, _DTYPES[dtype], top_k))

    def send(self, x_TD: torch.Tensor, expert_ids_TK: torch.Tensor, table: RouteTable, all_tokens: int) -> torch.Tensor:
        """Send up to `capacity` tokens to their experts, of a call that has `all_tokens`; returns the ticket."""
        self._begin()
        ticket = self._numbers(1)
        rows = x_TD.contiguous(), expert_ids_TK.contiguous()
        self._ops.dispatch_send(*self._common, *rows, table.numbers, all_tokens, ticket, self._stream())
        return ticket

    def receive(
        self, ticket: torch.Tensor, table: RouteTable, rows_RD: torch.Tensor, top_k: int, tokens: int | None
    ) -> Arrival:
        """Fill `rows_RD` with what all ranks sent, sorted. Its length is the bound of what can come.

        `tokens` is how many every rank must have sent, where that is known.
        """
        origins_R = torch.empty(rows_RD.shape[0], dtype=torch.int32, device=rows_RD.device)
        counts_e, told = self._numbers(table.num_local), self._numbers((1 + table.num_local) * self.collectives.size)
        expected = -1 if tokens is None else tokens
        into = rows_RD, origins_R, counts_e, told
        self._ops.dispatch_receive(*self._common, ticket, table.numbers, top_k, expected, *into, self._stream())
        return Arrival(*into)

    def send_back(self, rows_RD: torch.Tensor, arrival: Arrival, top_k: int) -> torch.Tensor:
        """Send the results of the rows that came with `arrival` home; returns the ticket."""
        self._begin()
        ticket = self._numbers(1)
        whose = arrival.origins_R, arrival.counts_e
        self._ops.combine_send(*self._common, rows_RD.contiguous(), *whose, top_k, ticket, self._stream())
        return ticket

    def receive_back(
        self, ticket: torch.Tensor, weights_TK: torch.Tensor | None, top_k: int, out: torch.Tensor
    ) -> None:
        """Fill `out` `[T, D]` with each token's weighted sum; without weights, `[T * K, D]`, with the results."""
        self._ops.combine_receive(*self._common, ticket, weights_TK, top_k, out, self._stream())

    def check(self) -> None:
        """Raise `LateRank` or `RankFailure` if an exchange has been given up. Does not wait for the device."""
        if not int(self._report[_WHAT]):
            return
        report = self._report.tolist()
        what, rank = report[_WHAT], report[_RANK]
        if what == _LATE:
            late = _LATE_WORDS[report[_WORD]].format(report[_NUMBER])
            raise LateRank(
                f"rank {self.collectives.rank} has waited {self.collectives.timeout:.0f} s for rank {rank} in {late}"
            )
        width, dtype, top_k, fp8, tokens, _ = report[_THEIRS : _THEIRS + 6]
        names = {number: name for name, number in _DTYPES.items()}
        rows = f"{tokens} tokens of {width} x {names.get(dtype, dtype)}{' in 8 bits' if fp8 else ''}, {top_k} rows each"
        why = "which is not what this rank expects" if what == _DISAGREE else "for which there is no room"
        raise RankFailure(
            f"in dispatch {report[_NUMBER]} rank {rank} sent rank {self.collectives.rank} {rows}, {why}; "
            "the ranks run different models or batches"
        )

    def _begin(self) -> None:
        self.check()
        self.collectives.calls += 1

    def _numbers(self, count: int) -> torch.Tensor:
        return torch.empty(count, dtype=torch.int64, device=self.collectives.device)

    def _stream(self) -> int:
        device = self.collectives.device
        return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0


def route_table(routes: Routes, device: torch.device) -> RouteTable:
    """`routes` on `device`."""
    placement = routes.placement
    index_of = [placement.experts_of(owner).index(expert) for expert, owner in enumerate(routes.owner_E)]
    numbers = torch.tensor([*routes.owner_E, *index_of, *routes.local_experts], dtype=torch.int32, device=device)
    return RouteTable(numbers, len(routes.local_experts))
