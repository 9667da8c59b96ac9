"""Rows carried by NCCL through a communicator of our own, made of an id that rank 0 tells the others.

Nothing of torch's process groups carries the rows, so it works beside them and whatever NCCL they have. Calls do not
block: while one is under way, Python looks at signals and at the other ranks every 0.2 s, and gives the communicator up
when the time-out is over or the group has failed. (Not run on a GPU yet.)
"""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch

from mixtralkit.dist.collective_error import BrokenExchange, LateRank
from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.preflight import agree
from mixtralkit.errors import LaunchError
from mixtralkit.moe.dispatch.nccl_library import nccl_facts, why_not_library
from mixtralkit.moe.dispatch.row_mover import Piece, RowMover
from mixtralkit.ops import library

_SLICE = 0.2  # seconds that a call waits before Python looks around
_CLOSING = 5.0  # seconds for the ranks to end together, before what is left is aborted


class NcclExchange(RowMover):
    """One rank's end of a communicator of all ranks of `collectives`, on the GPU `device`.

    Its work runs on a stream of its own, in order with the caller's current one, and can be captured in a CUDA graph
    when something like it has run before. One thread at a time. Graphs should be gone before `close`, or else it waits
    for them for seconds, and they must not be replayed behind it.

    Raises:
        LaunchError: a rank has no NCCL, the ranks have different versions of it, or they cannot connect.
        LateRank: a rank does not come within the group's time-out.

    """

    def __init__(self, collectives: Collectives, device: torch.device) -> None:
        problem = why_not_library()
        agree(collectives, {"NCCL": problem or nccl_facts().found})
        if problem is not None:
            raise LaunchError(f"the ranks cannot talk over NCCL: {problem}; use --dispatch collective")
        self.rank, self.size = collectives.rank, collectives.size
        self._collectives, self._device = collectives, device
        self._ops = library.ops(library.NCCL)
        try:
            self._number = self._join()
        except BrokenExchange as error:
            raise LaunchError(f"the ranks cannot talk over NCCL: {error}; use --dispatch collective") from error

    def all_gather(self, x: torch.Tensor) -> torch.Tensor:
        """See `RowMover.all_gather`."""
        whole = x.new_empty(self.size, *x.shape)
        if x.numel():
            self._do(self._ops.nccl_all_gather, self._stream(), x.contiguous(), whole)
            self._count([x.nbytes] * (self.size - 1))
        return whole

    def move(
        self, rows_ND: torch.Tensor, sends: Sequence[Piece], receives: Sequence[Piece], num_rows: int
    ) -> torch.Tensor:
        """See `RowMover.move`."""
        received = rows_ND.new_empty(num_rows, rows_ND.shape[1])
        if sends or receives:
            named = [[number for piece in pieces for number in piece] for pieces in (sends, receives)]
            self._do(self._ops.nccl_exchange, self._stream(), rows_ND.contiguous(), named[0], received, named[1])
            row_bytes = rows_ND.shape[1] * rows_ND.itemsize
            self._count([piece.rows * row_bytes for piece in sends if piece.rank != self.rank])
        return received

    def on_host(self, x: torch.Tensor) -> torch.Tensor:
        """See `RowMover.on_host`. Without rows from a rank that does not come, `LateRank` is raised in time."""
        host = torch.empty(x.shape, dtype=x.dtype, pin_memory=x.is_cuda)
        host.copy_(x, non_blocking=True)
        self._finish(lambda: self._ops.nccl_drained(self._number, self._stream(), _SLICE))
        return host

    def close(self) -> None:
        """End the communicator, all ranks together; what cannot be ended within seconds is aborted."""
        self._release.detach()
        self._call(self._ops.nccl_close, self._number, _CLOSING)

    def _join(self) -> int:
        made = self._call(self._ops.nccl_unique_id).tolist() if self.rank == 0 else None
        told = torch.tensor(self._collectives.broadcast_json(made), dtype=torch.uint8)
        number = int(self._call(self._ops.nccl_join, told, self.size, self.rank))
        self._release = weakref.finalize(self, _abandon, self._ops, number)
        self._release.atexit = False  # NCCL and the driver may have ended by then, and the system takes all back
        self._number = number
        self._finish(lambda: self._ops.nccl_settle(number, _SLICE))
        return number

    def _do(self, operator: Callable[..., bool], *arguments: Any) -> None:
        """Begin something, and wait until its work is on the device's stream, or beyond hope."""
        self._collectives.calls += 1
        begun = False

        def step() -> bool:
            nonlocal begun
            if begun:
                return bool(self._ops.nccl_settle(self._number, _SLICE))
            begun = True
            return bool(operator(self._number, *arguments, _SLICE))

        self._finish(step)

    def _finish(self, step: Callable[[], bool]) -> None:
        """Call `step` until it says that it is done; whatever ends this before ends the communicator.

        Slices are counted, and no clock is read, so that a rank that was stopped itself gives the others their time.
        """
        slices = 0
        try:
            while not self._call(step):
                slices += 1
                self._collectives.check()
                if slices * _SLICE >= self._collectives.timeout:
                    raise LateRank(
                        f"rank {self.rank} has waited {self._collectives.timeout:.0f} s for the other ranks in an "
                        f"exchange over NCCL"
                    )
        except BaseException:
            self._ops.nccl_give_up(self._number)
            raise

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except RuntimeError as error:
            raise BrokenExchange(" ".join(str(error).split())) from error

    def _stream(self) -> int:
        return int(torch.cuda.current_stream(self._device).cuda_stream) if self._device.type == "cuda" else 0

    def _count(self, nbytes: Sequence[int]) -> None:
        self._collectives.bytes_sent += sum(nbytes)


def _abandon(ops: Any, number: int) -> None:
    """Free a communicator that nobody has closed, without waiting for the other ranks."""
    ops.nccl_close(number, 0.0)
