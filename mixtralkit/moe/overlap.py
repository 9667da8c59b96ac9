"""Communication under computation: part i + 1 travels while part i is computed and part i - 1 returns.

Works over any dispatch. All exchanges happen in one lane, in an order that is the same on all ranks: dispatch 0,
dispatch 1, combine 0, dispatch 2, combine 1, and so on.
"""

import time
from collections.abc import Callable
from functools import partial

import torch

from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.lane import Lane
from mixtralkit.moe.parts import Parts, rank_groups, token_chunks
from mixtralkit.moe.placement.routes import Routes
from mixtralkit.moe.routing import Routing
from mixtralkit.moe.timeline import COMMUNICATION, COMPUTATION, Span, Timeline
from mixtralkit.ops.expert_mlp import Counts

ComputeRows = Callable[[torch.Tensor, Counts], torch.Tensor]


class Overlap:
    """How the layers of a model cut their rows: into `chunks` of tokens, or with a `group_size` into groups of ranks.

    `chunks` is changed between two steps, by all ranks alike; 1 is no overlap.
    """

    def __init__(self, timeline: Timeline, group_size: int | None = None) -> None:
        self.chunks = 1
        self.group_size = group_size
        self._timeline = timeline
        self._lane: Lane | None = None

    @property
    def is_on(self) -> bool:
        """Whether rows are to be cut at all."""
        return self.chunks > 1

    def cut(self, x_TD: torch.Tensor, routing: Routing, routes: Routes) -> Parts:
        """The parts of a call."""
        if self.group_size is not None:
            return rank_groups(x_TD, routing, routes, self.group_size)
        return token_chunks(x_TD, routing, self.chunks)

    def run(self, parts: Parts, dispatch: Dispatch, experts: ComputeRows, layer: int) -> torch.Tensor:
        """Dispatch, experts and combine of all parts, `[T, D]`; without gradients. All ranks call it together."""
        lane = self._lane = self._lane or Lane("communication", parts.x[0].device)
        spans: list[Span] = []
        sends = [partial(dispatch.dispatch, x, routing) for x, routing in zip(parts.x, parts.routing, strict=True)]
        coming = [lane.submit(send) for send in sends[:2]]
        going, kept = [], []  # results are kept until they have travelled: on a GPU their memory is another stream's
        for part in range(len(sends)):
            arrived = lane.result(coming[part])
            rows_RD, counts_e, handle = arrived.value
            spans.append(Span(COMMUNICATION, "dispatch", layer, part, arrived.begin, arrived.end))
            self._timeline.count_rows(counts_e)
            begin = time.perf_counter()
            results_RD = experts(rows_RD, counts_e)
            spans.append(Span(COMPUTATION, "experts", layer, part, begin, time.perf_counter()))
            kept.append(results_RD)
            going.append(lane.submit(partial(dispatch.combine, results_RD, handle)))
            coming += [lane.submit(send) for send in sends[part + 2 : part + 3]]
        returned = [lane.result(future) for future in going]
        spans += [Span(COMMUNICATION, "combine", layer, i, done.begin, done.end) for i, done in enumerate(returned)]
        self._timeline.add(spans)
        return parts.join([done.value for done in returned])
