"""Small worlds to place experts in: what hypothesis draws, and the best placement found by trying all."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from mixtralkit.dist.topology import Topology
from mixtralkit.moe.placement.cost import ExpertShape, Rates, layer_time
from mixtralkit.moe.placement.plan import Placement, even_split, same_for_all
from mixtralkit.moe.placement.replica import Replica, with_replicas

SHAPE = ExpertShape(width=64, hidden=224, weight_bytes=6 * 64 * 224, row_bytes=256, top_k=2)


@dataclass(frozen=True)
class World:
    """What a placement is made for, and room for `places` replicas on each rank."""

    demand: list[list[list[float]]]
    homes: tuple[Placement, ...]
    topology: Topology
    rates: Rates
    places: int

    @property
    def budget(self) -> int:
        """Bytes a rank, less than one expert more than the places take."""
        return self.places * SHAPE.weight_bytes + SHAPE.weight_bytes - 1

    def layer_seconds(self, placements: Sequence[Placement]) -> list[float]:
        return [
            layer_time(rows_WE, placement, self.topology, self.rates, SHAPE).total
            for rows_WE, placement in zip(self.demand, placements, strict=True)
        ]

    def seconds(self, placements: Sequence[Placement]) -> float:
        return sum(self.layer_seconds(placements))


@st.composite
def worlds(draw: st.DrawFn, nodes: int = 3, ranks_a_node: int = 3, experts: int = 6, layers: int = 2) -> World:
    """Up to so many of each, ranks more than experts among them, and rates over several orders of magnitude."""
    num_nodes, per_node = draw(st.integers(1, nodes)), draw(st.integers(1, ranks_a_node))
    num_experts, num_layers = draw(st.integers(1, experts)), draw(st.integers(1, layers))
    ranks = num_nodes * per_node
    # None, less than one a step on average, a decode step, a prefill.
    rows = st.one_of(st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 20).map(float), st.integers(0, 999).map(float))
    matrix = st.lists(st.lists(rows, min_size=num_experts, max_size=num_experts), min_size=ranks, max_size=ranks)
    exponent = st.floats(0, 1)
    rates = Rates(
        node_bandwidth=10 ** (8 + 2 * draw(exponent)),
        network_bandwidth=10 ** (6 + 3.5 * draw(exponent)),
        node_latency=1e-5,
        network_latency=1e-4,
        compute=10 ** (8 + 3 * draw(exponent)),
        weight_bandwidth=10 ** (8 + 2.5 * draw(exponent)),
    )
    return World(
        demand=draw(st.lists(matrix, min_size=num_layers, max_size=num_layers)),
        homes=same_for_all(even_split(num_experts, ranks), num_layers),
        topology=Topology(tuple(rank // per_node for rank in range(ranks))),
        rates=rates,
        places=draw(st.integers(0, num_experts * num_layers)),
    )


def possible_replicas(world: World) -> list[Replica]:
    """Of every expert, on every rank that is not its home."""
    return [
        Replica(layer, expert, rank)
        for layer, home in enumerate(world.homes)
        for expert in range(home.num_experts)
        for rank in range(home.world_size)
        if rank not in home.owners_of(expert)
    ]


def least_seconds(world: World) -> float:
    """The time of the best of all sets of replicas that the places allow, of experts that have rows."""
    replicas = [
        replica
        for replica in possible_replicas(world)
        if any(rows_E[replica.expert] for rows_E in world.demand[replica.layer])
    ]
    sets = itertools.chain.from_iterable(itertools.combinations(replicas, count) for count in range(len(replicas) + 1))
    ranks = range(world.homes[0].world_size)
    return min(
        world.seconds(with_replicas(world.homes, some))
        for some in sets
        if all(sum(replica.rank == rank for replica in some) <= world.places for rank in ranks)
    )
