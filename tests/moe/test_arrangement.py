"""Layers are given other dispatches and other experts between two calls, and go on as if nothing had been."""

import torch
from torch import nn

from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology
from mixtralkit.errors import UsageError
from mixtralkit.model.transformer import Transformer
from mixtralkit.moe.arrangement import Arrangement
from mixtralkit.moe.capacity import Capacity
from mixtralkit.moe.dispatch.transport import Transport
from mixtralkit.moe.gates.node_limited import NodeLimitedGate
from mixtralkit.moe.gates.topk import TopKGate
from mixtralkit.moe.load import ExpertLoad
from mixtralkit.moe.placement.plan import Placement, even_split
from mixtralkit.parallelize import moe_layers, parallelize
from tests.dispatches import SPREAD
from tests.random_model import TINY, random_model
from tests.ranks import run_ranks
from tests.steered_model import expert_of

EVEN = even_split(TINY.num_experts, 2)  # 0, 1, 2 and 3, 4
GROWN = EVEN.with_replica(3, 0).with_replica(0, 1).with_replica(1, 1)
HOMES = (EVEN,) * TINY.num_layers
NODES = Topology((0, 1))


def arrange(
    model: Transformer, collectives: Collectives, capacity: Capacity | None = None, fraction: float | None = None
) -> Arrangement:
    """Spread `model` over two ranks, each a node."""
    arrangement = Arrangement(
        transport=Transport(collectives, TINY.num_experts),
        topology=NODES,
        rank=collectives.rank,
        dispatch="collective",
        capacity=capacity,
        outgoing_fraction=fraction,
        dropped_LE=torch.zeros(TINY.num_layers, TINY.num_experts, dtype=torch.int64),
    )
    load = ExpertLoad(TINY.num_layers, TINY.num_experts, collectives.device)
    routes, gate_of = arrangement.routes(HOMES), arrangement.gate_of
    parallelize(model, routes=routes, dispatch_for=arrangement.dispatch_for, load=load, gate_of=gate_of)
    arrangement.layers = moe_layers(model)
    return arrangement


def fetched(placements: list[Placement], rank: int) -> dict[tuple[int, int], nn.Module]:
    """From a model of the same seed, what `rank` has to get for `placements`."""
    whole = random_model(TINY)
    return {
        (layer, expert): expert_of(whole, layer, expert)
        for layer, placement in enumerate(placements)
        for expert in set(placement.experts_of(rank)) - set(EVEN.experts_of(rank))
    }


def _tokens(rank: int) -> torch.Tensor:
    return torch.randint(0, TINY.vocab_size, (1, 13 + rank), generator=torch.Generator().manual_seed(rank))


def _changed(collectives: Collectives) -> dict[str, torch.Tensor]:
    """Logits after each of a row of changes."""
    model = random_model(TINY)
    arrangement = arrange(model, collectives)
    found = {}

    def note(what: str) -> None:
        with torch.inference_mode():
            found[what] = model(_tokens(collectives.rank))

    assert type(arrangement.layers[0].gate) is TopKGate  # unless asked otherwise
    assert arrangement.top_k == TINY.top_k
    note("at first")
    for dispatch in (*SPREAD[::-1], "collective"):
        arrangement.use(dispatch)
        assert arrangement.dispatch == dispatch
        note(dispatch)
    demand = [[[1.0] * TINY.num_experts] * 2] * TINY.num_layers
    for name, placements in {"one layer": [EVEN, GROWN], "both": [GROWN, GROWN], "home again": list(HOMES)}.items():
        before = arrangement.layers[0].experts
        arrangement.place(placements, demand, fetched(placements, collectives.rank))
        assert [sorted(arrangement.held(layer)) for layer in range(2)] == [
            list(placement.experts_of(collectives.rank)) for placement in placements
        ]
        assert (arrangement.layers[0].experts is before) == (name == "one layer")  # what does not change is left alone
        note(name)
    return found


def test_the_same_bits_after_every_change() -> None:
    plain = random_model(TINY)
    for rank, found in enumerate(run_ranks(2, _changed)):
        with torch.inference_mode():
            expected = plain(_tokens(rank))
        assert len(found) == len(SPREAD) + 5 - 1
        assert [what for what, logits in found.items() if not torch.equal(logits, expected)] == []


def _wrapped(collectives: Collectives) -> list[list[int]]:
    """Rows dropped of each expert by cold experts' capacity, in each arrangement."""
    model = random_model(TINY)
    arrangement = arrange(model, collectives, Capacity(None, 0, cold_factor=0.01))
    dropped = []

    def note() -> None:
        arrangement.dropped_LE.zero_()
        with torch.inference_mode():
            model(_tokens(collectives.rank))
        dropped.append(arrangement.dropped_LE.sum(0).tolist())

    note()
    arrangement.use("all_gather")
    note()
    placements = [GROWN] * TINY.num_layers
    arrangement.place(placements, [[[1.0] * 5] * 2] * 2, fetched(placements, collectives.rank))
    note()
    return dropped


def test_a_capacity_goes_with_every_dispatch_and_knows_what_is_held() -> None:
    """Cold experts take next to nothing, so what is dropped tells which are: those of the other rank alone."""
    for rank, (first, other_dispatch, grown) in enumerate(run_ranks(2, _wrapped)):
        assert other_dispatch == first
        for dropped, placement in ((first, EVEN), (grown, GROWN)):
            held = placement.experts_of(rank)
            assert all(dropped[expert] == 0 for expert in held)
            assert any(dropped[expert] for expert in range(TINY.num_experts) if expert not in held)


def _gates(collectives: Collectives) -> tuple[list[int], list[int], set[int]]:
    """The experts that the gate of layer 1 takes for near, before and after a change, and what it then chooses."""
    model = random_model(TINY)
    arrangement = arrange(model, collectives, fraction=0.0)
    gate = arrangement.layers[1].gate
    assert isinstance(gate, NodeLimitedGate)
    before = gate._on_node_E.nonzero().flatten().tolist()
    placements = [EVEN, GROWN]
    arrangement.place(placements, [[[1.0] * 5] * 2] * 2, fetched(placements, collectives.rank))
    assert arrangement.layers[1].gate is gate
    chosen = gate(torch.randn(200, TINY.dim, generator=torch.Generator().manual_seed(1))).expert_ids_TK
    return before, gate._on_node_E.nonzero().flatten().tolist(), set(chosen.flatten().tolist())


def test_a_node_limited_gate_learns_of_replicas() -> None:
    for rank, (before, after, chosen) in enumerate(run_ranks(2, _gates)):
        assert before == list(EVEN.experts_of(rank))
        assert after == list(GROWN.experts_of(rank))
        assert chosen == set(after)


def _one_on_a_node(collectives: Collectives) -> str:
    lonely = Placement(TINY.num_experts, ((0,), (1, 2, 3, 4)))
    arrangement = arrange(random_model(TINY), collectives, fraction=0.5)
    (routes, *_) = arrangement.routes([lonely])
    try:
        arrangement.gate_of(nn.Parameter(torch.randn(TINY.num_experts, TINY.dim)), 2, routes)
    except UsageError as error:
        return str(error)
    return ""


def test_a_node_with_too_few_experts_is_refused() -> None:
    first, second = run_ranks(2, _one_on_a_node)
    assert "needs 2 experts on every node" in first
    assert second == ""
