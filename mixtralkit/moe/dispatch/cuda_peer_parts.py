"""A call of the exchange between GPUs as one exchange, or as many as its tokens need, seen from outside as one.

How many parts a call takes every rank learns from the first: each message says how many tokens its sender has in all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mixtralkit.errors import UsageError
from mixtralkit.moe.dispatch.cuda_peer_exchange import Arrival, CudaPeerExchange, route_table
from mixtralkit.moe.placement.routes import Routes
from mixtralkit.ops.expert_mlp import Counts


@dataclass(frozen=True)
class Arrived:
    """Whose the rows of a call are, part by part, each of up to `part_tokens` tokens of a rank; `counts` are those of
    the whole call. Of several parts `part_rows` says how many rows each has, and `order_R` brings these, one part after
    the other, into the order of the whole call.
    """

    parts: tuple[Arrival, ...]
    counts: Counts
    part_tokens: int
    part_rows: tuple[int, ...] = ()
    order_R: torch.Tensor | None = None


class Mover:
    """Sends the rows of one layer, which go by `routes`, and brings results back.

    `even` promises that every rank sends as many tokens as this one: nothing waits for the device then.
    """

    def __init__(self, exchange: CudaPeerExchange, routes: Routes, *, even: bool) -> None:
        self._exchange = exchange
        self._ranks = routes.world_size
        self._table = route_table(routes, exchange.collectives.device)
        self._even = even

    def send(self, x_TD: torch.Tensor, ids_TK: torch.Tensor) -> tuple[torch.Tensor, Arrived]:
        """The rows that came for this rank's experts, as `Dispatch.dispatch` promises them, and whose they are.

        Even tokens must fit into one exchange: raises `UsageError` where they do not.
        """
        if not self._even:
            return self.send_exactly(x_TD, ids_TK)
        tokens, (_, top_k) = len(x_TD), ids_TK.shape
        room = self._exchange.capacity(x_TD.shape[1], x_TD.dtype, top_k)
        if tokens > room:
            raise UsageError(f"{tokens} tokens of a recorded step are more than the {room} that one exchange can take")
        ticket = self._exchange.send(x_TD, ids_TK, self._table, tokens)
        arrival = self._exchange.receive(ticket, self._table, self._room_for(tokens, x_TD, top_k), top_k, tokens)
        return arrival.rows_RD, Arrived((arrival,), arrival.counts_e, room)

    def send_exactly(self, x_TD: torch.Tensor, ids_TK: torch.Tensor) -> tuple[torch.Tensor, Arrived]:
        """`send` of any number of tokens, in as many parts as the rank with the most of them needs.

        The host reads how many rows came: it waits for the device once, or twice with several parts.
        """
        room = self._exchange.capacity(x_TD.shape[1], x_TD.dtype, ids_TK.shape[1])
        parts = [self._exchange_part(x_TD, ids_TK, 0, room)]
        told = [self._read(parts[0])]
        starts = range(room, max(told[0][: self._ranks]), room)
        parts += [self._exchange_part(x_TD, ids_TK, begin, room) for begin in starts]
        told += [self._read(part) for part in parts[1:]]
        rows_peW = [_by_expert(numbers[self._ranks :], self._ranks) for numbers in told]
        counts = [sum(map(sum, of_expert)) for of_expert in zip(*rows_peW, strict=True)]
        part_rows = tuple(sum(map(sum, rows_eW)) for rows_eW in rows_peW)
        arrived = [part.rows_RD[:rows] for part, rows in zip(parts, part_rows, strict=True)]
        if len(parts) == 1:
            return arrived[0], Arrived((parts[0],), counts, room)
        order_R = _order(rows_peW, part_rows).to(x_TD.device)
        return torch.cat(arrived).index_select(0, order_R), Arrived(tuple(parts), counts, room, part_rows, order_R)

    def bring_back(
        self, rows_RD: torch.Tensor, arrived: Arrived, ids_TK: torch.Tensor, weights_TK: torch.Tensor | None
    ) -> torch.Tensor:
        """Each token's weighted sum of results, `[T, D]`; without weights every result, `[T * K, D]`."""
        (tokens, top_k), width = ids_TK.shape, rows_RD.shape[1]
        places = top_k if weights_TK is None else 1
        out = rows_RD.new_empty(tokens * places, width)
        begin = 0
        for part, rows in zip(arrived.parts, _rows_of_parts(rows_RD, arrived), strict=True):
            end = min(tokens, begin + arrived.part_tokens)
            ticket = self._exchange.send_back(rows, part, top_k)
            weights = None if weights_TK is None else weights_TK[begin:end].contiguous()
            self._exchange.receive_back(ticket, weights, top_k, out[begin * places : end * places])
            begin = end
        return out

    def _exchange_part(self, x_TD: torch.Tensor, ids_TK: torch.Tensor, begin: int, room: int) -> Arrival:
        part, top_k = slice(begin, begin + room), ids_TK.shape[1]
        ticket = self._exchange.send(x_TD[part], ids_TK[part], self._table, len(x_TD))
        return self._exchange.receive(ticket, self._table, self._room_for(room, x_TD, top_k), top_k, None)

    def _room_for(self, tokens: int, x_TD: torch.Tensor, top_k: int) -> torch.Tensor:
        """For so many tokens of every rank: a token has at most one row for an expert."""
        return x_TD.new_empty(self._ranks * tokens * min(top_k, self._table.num_local), x_TD.shape[1])

    def _read(self, part: Arrival) -> list[int]:
        """What the part tells; waits for the device, and raises what `CudaPeerExchange.check` does."""
        told: list[int] = part.told.tolist()
        self._exchange.check()
        return told


def _by_expert(rows: Sequence[int], ranks: int) -> list[list[int]]:
    return [list(rows[begin : begin + ranks]) for begin in range(0, len(rows), ranks)]


def _order(rows_peW: Sequence[Sequence[Sequence[int]]], part_rows: Sequence[int]) -> torch.Tensor:
    """Where the rows of the call lie, in its order of expert, rank and token, among those of all parts: each part has
    this order in itself, and later tokens of a rank than the part before.
    """
    begins = [sum(part_rows[:part]) for part in range(len(part_rows))]
    pieces = []
    for of_expert in zip(*rows_peW, strict=True):
        for of_rank in zip(*of_expert, strict=True):
            for part, rows in enumerate(of_rank):
                pieces.append(torch.arange(begins[part], begins[part] + rows))
                begins[part] += rows
    return torch.cat(pieces) if pieces else torch.empty(0, dtype=torch.int64)


def _rows_of_parts(rows_RD: torch.Tensor, arrived: Arrived) -> Sequence[torch.Tensor]:
    if arrived.order_R is None:
        return [rows_RD]
    in_parts_RD = torch.empty_like(rows_RD).index_copy_(0, arrived.order_R, rows_RD)
    return torch.split(in_parts_RD, list(arrived.part_rows))
