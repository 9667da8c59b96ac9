"""The exchanges between the ranks of a group, over torch.distributed.

A group of one rank needs no process group: every exchange then gives back what was put in. The time-out is the
process group's own. `bytes_sent` counts what leaves this rank, for the report, `bytes_to` what of it goes to each other
rank, and `calls` the exchanges begun: the rank that has begun fewest is the one that the others wait for. Exchanges
that go other ways than torch's (moe/dispatch/peer_exchange.py) count `bytes_sent` and `calls`, have the same time-out,
and ask `check` while they wait.

Of torch's all-gathers the list form is used, because its name is the same in every torch from 2.10.
"""

import json
import struct
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.distributed as dist

DEFAULT_TIMEOUT = 60.0
_CELL = 2048  # bytes of a trade's first message: the length of all there is, and as much of it as there is room for
_LENGTH = struct.Struct("<q")
_TRADE = 1  # the tag of a trade's messages; all others' is 0


class Collectives:
    """The collective operations of one process group; all ranks call the same ones in the same order.

    `timeout` is the process group's, in seconds. `check` raises `GroupFailure` when the group is known to have failed;
    it does nothing where nobody watches over the group.
    """

    def __init__(
        self, process_group: dist.ProcessGroup | None, device: torch.device, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        self._group = process_group
        self.timeout = timeout
        self.check: Callable[[], None] = _nothing
        self.device = device
        self.rank = 0 if process_group is None else process_group.rank()
        self.size = 1 if process_group is None else process_group.size()
        self.bytes_sent = 0
        self.bytes_to = [0] * self.size
        self.calls = 0

    def all_gather(self, x: torch.Tensor) -> torch.Tensor:
        """Every rank's `x`, stacked in the order of the ranks: `[W, *x.shape]`. The shapes must be equal."""
        if self._group is None:
            return x[None]
        gathered = x.new_empty(self.size, *x.shape)
        self._count([x.nbytes] * self.size)
        self.calls += 1
        if self.device.type == "cpu":
            self._swap([_bytes(x.flatten())] * self.size, list(_bytes(gathered.flatten(1))))
        else:
            dist.all_gather(list(_bytes(gathered.flatten(1))), _bytes(x.flatten()), group=self._group)
        return gathered

    def all_to_all(
        self, rows_ND: torch.Tensor, send_counts: Sequence[int], receive_counts: Sequence[int]
    ) -> torch.Tensor:
        """Send `send_counts[r]` consecutive rows to each rank r; returns what came, in the order of the ranks.

        The caller must know that `receive_counts` are what the others send: gloo aborts the process otherwise.
        """
        if self._group is None:
            return rows_ND
        self.calls += 1
        received = rows_ND.new_empty(sum(receive_counts), *rows_ND.shape[1:])
        row_bytes = rows_ND[:1].nbytes if rows_ND.shape[0] else 0
        self._count([count * row_bytes for count in send_counts])
        if self.device.type == "cpu":
            parts = rows_ND.split(list(send_counts)), received.split(list(receive_counts))
            self._swap(*([_bytes(part).flatten() for part in side] for side in parts))
        else:
            dist.all_to_all_single(
                _bytes(received), _bytes(rows_ND), list(receive_counts), list(send_counts), group=self._group
            )
        return received

    def _swap(self, sent: Sequence[torch.Tensor], received: Sequence[torch.Tensor]) -> None:
        """Send `sent[r]` (uint8) to each rank r and fill `received[r]` with what it sends here, over gloo.

        Receives are posted first, and empty messages left out: gloo's own all-to-all sends first, and then does not
        read until it has sent, so that a link carries one direction after the other (docs/log.md).
        """
        assert self._group is not None
        received[self.rank].copy_(sent[self.rank])
        around = [(self.rank + distance) % self.size for distance in range(1, self.size)]
        works = [self._group.recv([received[rank]], rank, 0) for rank in reversed(around) if received[rank].numel()]
        works += [self._group.send([sent[rank]], rank, 0) for rank in around if sent[rank].numel()]
        for work in works:
            work.wait()

    def trade_with_first(self, content: bytes) -> list[bytes]:
        """Give `content` to rank 0, which gives its own to every other rank; on the CPU only.

        Returns on rank 0 what every rank gave, in their order and with its own, and elsewhere what rank 0 gave, alone.
        Takes one message each way while that is short, and a second one where it is not: cheap enough for every step.
        Another thread may make other exchanges meanwhile.
        """
        if self._group is None:
            return [content]
        self.calls += 1
        peers = range(1, self.size) if self.rank == 0 else range(1)
        cells = [torch.empty(_CELL, dtype=torch.uint8) for _ in peers]
        coming = [self._group.recv([cell], peer, _TRADE) for cell, peer in zip(cells, peers, strict=True)]
        going = [self._group.send([part], peer, _TRADE) for part in _letter(content) for peer in peers]
        rests = []
        for peer, cell, work in zip(peers, cells, coming, strict=True):
            work.wait()
            rests.append(torch.empty(max(0, _letter_bytes(cell) - _CELL), dtype=torch.uint8))
            going += [self._group.recv([rest], peer, _TRADE) for rest in rests[-1:] if rest.numel()]
        for work in going:
            work.wait()
        nbytes = max(_CELL, _LENGTH.size + len(content))
        self._count([nbytes if rank in peers else 0 for rank in range(self.size)])
        came = [_read_letter(cell, rest) for cell, rest in zip(cells, rests, strict=True)]
        return [content, *came] if self.rank == 0 else came

    def broadcast_json(self, value: Any) -> Any:
        """Rank 0's `value`, which must be JSON; the other ranks' is not looked at."""
        if self._group is None:
            return value
        self.calls += 1
        data = json.dumps(value).encode() if self.rank == 0 else b""
        size = torch.tensor([len(data)], dtype=torch.int64, device=self.device)
        dist.broadcast(size, group=self._group, group_src=0)
        content = torch.empty(int(size), dtype=torch.uint8, device=self.device)
        if self.rank == 0:
            content.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
            self._count([len(data)] * self.size)
        dist.broadcast(content, group=self._group, group_src=0)
        return json.loads(content.cpu().numpy().tobytes())

    def _count(self, nbytes_W: Sequence[int]) -> None:
        """Note so many bytes to each rank; those to itself do not count."""
        for rank, nbytes in enumerate(nbytes_W):
            if rank != self.rank:
                self.bytes_to[rank] += nbytes
                self.bytes_sent += nbytes

    def all_gather_json(self, value: Any) -> list[Any]:
        """Every rank's JSON `value`, in the order of the ranks."""
        data = json.dumps(value).encode()
        sizes = self.all_gather(torch.tensor([len(data)], dtype=torch.int64, device=self.device)).flatten().tolist()
        padded = torch.zeros(max(sizes), dtype=torch.uint8, device=self.device)
        padded[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        contents = self.all_gather(padded)
        return [
            json.loads(content[:size].cpu().numpy().tobytes()) for content, size in zip(contents, sizes, strict=True)
        ]


def exchange_rows(
    collectives: Collectives, rows_ND: torch.Tensor, send_counts: Sequence[int], receive_counts: Sequence[int]
) -> torch.Tensor:
    """`Collectives.all_to_all` with a gradient, which travels the other way."""
    received = _ExchangeRows.apply(rows_ND, collectives, send_counts, receive_counts)  # type: ignore[no-untyped-call]
    return cast(torch.Tensor, received)


class _ExchangeRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, collectives: Collectives, send: Sequence[int], receive: Sequence[int]
    ) -> torch.Tensor:
        ctx.collectives, ctx.send, ctx.receive = collectives, send, receive
        return collectives.all_to_all(rows.contiguous(), send, receive)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return ctx.collectives.all_to_all(grad.contiguous(), ctx.receive, ctx.send), None, None, None


def _letter(content: bytes) -> Sequence[torch.Tensor]:
    """`content` with its length in front, as uint8: a full cell, and the rest if there is one."""
    letter = torch.frombuffer(bytearray(_LENGTH.pack(len(content)) + content).ljust(_CELL, b"\0"), dtype=torch.uint8)
    return [part for part in (letter[:_CELL], letter[_CELL:]) if part.numel()]


def _letter_bytes(cell: torch.Tensor) -> int:
    """How long the letter is that begins with `cell`."""
    return _LENGTH.size + int(_LENGTH.unpack_from(cell.numpy().tobytes())[0])


def _read_letter(cell: torch.Tensor, rest: torch.Tensor) -> bytes:
    return (cell.numpy().tobytes() + rest.numpy().tobytes())[_LENGTH.size : _letter_bytes(cell)]


def _nothing() -> None:
    """Find nothing wrong."""


def _bytes(x: torch.Tensor) -> torch.Tensor:
    """The same memory as uint8, so that the wire need not know the dtype; all dimensions but the last are kept."""
    return x.contiguous().view(torch.uint8)
