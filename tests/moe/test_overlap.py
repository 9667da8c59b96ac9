"""Cutting a layer's rows into parts changes when things happen, and nothing of what comes out."""

import threading
import time
from collections.abc import Callable
from itertools import product

import pytest
import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.moe.dispatch.base import Dispatch, Handle
from mixtralkit.moe.overlap import Overlap
from mixtralkit.moe.parts import token_chunks
from mixtralkit.moe.placement.plan import Placement, even_split
from mixtralkit.moe.routing import Routing
from mixtralkit.moe.timeline import COMMUNICATION, COMPUTATION, Timeline
from mixtralkit.ops.expert_mlp import Counts
from tests.dispatches import SPREAD
from tests.random_model import TINY, random_model, spread
from tests.ranks import run_ranks

# Chunks of tokens, or None and the size of groups of ranks.
CUTS: list[tuple[int, int | None]] = [(2, None), (3, None), (8, None), (0, 1), (0, 2)]


def _placements(world_size: int) -> dict[str, list[Placement]]:
    """Even, and with other replicas in either layer."""
    even = even_split(TINY.num_experts, world_size)
    return {"even": [even, even], "replicas": [even.with_replica(0, world_size - 1), even.with_replica(4, 0)]}


def _tokens(rank: int) -> torch.Tensor:
    """Rank 1 has less tokens than there may be chunks, rank 2 has none."""
    tokens = {0: 11, 1: 2, 2: 0}.get(rank, 7)
    return torch.randint(0, TINY.vocab_size, (1, tokens), generator=torch.Generator().manual_seed(rank))


def _logits(collectives: Collectives) -> dict[tuple[object, ...], torch.Tensor]:
    found: dict[tuple[object, ...], torch.Tensor] = {}
    cuts = [cut for cut in CUTS if (cut[1] or 0) < collectives.size]
    for dispatch, (kind, placements), cut in product(SPREAD, _placements(collectives.size).items(), cuts):
        model = random_model(TINY)
        overlap = Overlap(Timeline(), cut[1])
        overlap.chunks = cut[0] or -(-collectives.size // (cut[1] or 1))
        spread(model, dispatch, collectives, placements, overlap)
        with torch.inference_mode():
            found[dispatch, kind, cut] = model(_tokens(collectives.rank))
    return found


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_same_bits_as_one_process(size: int) -> None:
    """Every dispatch, with and without replicas, cut into chunks of tokens and groups of ranks."""
    plain = random_model(TINY)
    for rank, seen in enumerate(run_ranks(size, _logits)):
        with torch.inference_mode():
            expected = plain(_tokens(rank))
        assert len(seen) >= 16
        assert [key for key, logits in seen.items() if not torch.equal(logits, expected)] == []


class _Wire(Dispatch):
    """A dispatch on which nothing travels: `on_call` is told of each call, by its name and part."""

    name = "wire"

    def __init__(self, on_call: Callable[[str], None]) -> None:
        self._on_call = on_call

    def dispatch(self, x_TD: torch.Tensor, routing: Routing) -> tuple[torch.Tensor, list[int], Handle]:
        self._on_call(f"dispatch {int(x_TD[0, 0])}")
        return x_TD, [x_TD.shape[0]], Handle(routing)

    def combine(self, rows_RD: torch.Tensor, handle: Handle) -> torch.Tensor:
        self._on_call(f"combine {int(rows_RD[0, 0])}")
        return rows_RD


def _overlapped(chunks: int, on_call: Callable[[str], None]) -> Timeline:
    """Run tokens 0, 1, 2, ... in as many chunks; `on_call` is told of what the experts compute as well."""

    def experts(rows_RD: torch.Tensor, counts_e: Counts) -> torch.Tensor:
        on_call(f"experts {int(rows_RD[0, 0])}")
        return rows_RD

    timeline = Timeline(keep_spans=True)
    x_TD = torch.arange(chunks, dtype=torch.float32)[:, None]
    parts = token_chunks(x_TD, Routing(torch.zeros(chunks, 1, dtype=torch.int64), torch.ones(chunks, 1)), chunks)
    out = Overlap(timeline).run(parts, _Wire(on_call), experts, layer=5)
    assert torch.equal(out, x_TD)
    return timeline


def test_exchanges_are_in_one_lane_and_one_order() -> None:
    """Ranks whose exchanges came in different orders would wait for each other for ever."""
    calls: list[tuple[str, str]] = []
    _overlapped(4, lambda what: calls.append((threading.current_thread().name, what)))
    order = "dispatch 0, dispatch 1, combine 0, dispatch 2, combine 1, dispatch 3, combine 2, combine 3"
    assert [what for thread, what in calls if thread == "communication_0"] == order.split(", ")
    assert [what for thread, what in calls if thread != "communication_0"] == [f"experts {part}" for part in range(4)]


def test_rows_travel_while_others_are_computed() -> None:
    """Each pair of calls waits for the other to have begun: without overlap they would wait in vain."""
    pairs = [("experts 0", "dispatch 1"), ("experts 1", "dispatch 2"), ("experts 2", "combine 1")]
    meetings = [threading.Barrier(2, timeout=20) for _ in pairs]

    def meet(what: str) -> None:
        for pair, meeting in zip(pairs, meetings, strict=True):
            if what in pair:
                meeting.wait()
                time.sleep(0.005)

    timeline = _overlapped(3, meet)
    spans = {f"{span.name} {span.part}": span for span in timeline.spans}
    assert {span.lane for name, span in spans.items() if name.startswith("experts")} == {COMPUTATION}
    assert {span.lane for name, span in spans.items() if not name.startswith("experts")} == {COMMUNICATION}
    for compute, travel in pairs:
        assert max(spans[compute].begin, spans[travel].begin) < min(spans[compute].end, spans[travel].end)
    assert timeline.hidden >= 3 * 0.005
    assert {span.layer for span in timeline.spans} == {5}


def test_an_error_in_the_lane_reaches_the_caller() -> None:
    """A peer that is lost is found out there."""

    def fail(what: str) -> None:
        if what == "dispatch 1":
            raise RuntimeError("the peer is gone")

    with pytest.raises(RuntimeError, match="the peer is gone"):
        _overlapped(3, fail)
