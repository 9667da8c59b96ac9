"""A placement for a load that was measured: with replicas as they were named, or as they gain most."""

from collections.abc import Sequence
from dataclasses import dataclass

from mixtralkit.cli.experts_options import ExpertsOptions
from mixtralkit.dist.topology import Topology
from mixtralkit.errors import UsageError
from mixtralkit.moe.load_profile import LoadProfile
from mixtralkit.moe.placement.balanced_homes import balanced_homes
from mixtralkit.moe.placement.cost import ExpertShape, Rates, layer_time
from mixtralkit.moe.placement.hot_experts import replicate_in_layers
from mixtralkit.moe.placement.plan import Placement, even_split, same_for_all
from mixtralkit.moe.placement.rebalance import Demand, rebalance
from mixtralkit.moe.steering_setup import default_budget
from mixtralkit.sizes import counted, size

# What is taken for true where nothing is measured: ranks on CPUs with a few cores each, in a network of 10 Gbit/s.
ASSUMED = Rates(
    node_bandwidth=5e9,
    network_bandwidth=1.25e9,
    node_latency=20e-6,
    network_latency=100e-6,
    compute=100e9,
    weight_bandwidth=10e9,
)


@dataclass(frozen=True)
class Plan:
    """A placement a layer, and in words how it came about."""

    placements: tuple[Placement, ...]
    reason: str


def target_topology(profile: LoadProfile, options: ExpertsOptions) -> Topology:
    """The ranks and nodes that `options` ask for; what they leave open is as in `profile`.

    Raises `UsageError` when the ranks cannot be shared out evenly among the nodes.
    """
    world_size = options.world_size or profile.world_size
    nodes = options.nodes or profile.topology.num_nodes
    if (world_size, nodes) == (profile.world_size, profile.topology.num_nodes):
        return profile.topology
    if world_size % nodes:
        raise UsageError(
            f"{counted(world_size, 'rank')} cannot be shared out evenly among {counted(nodes, 'node')}; "
            "choose --world-size and --nodes so that they can"
        )
    return Topology(tuple(rank * nodes // world_size for rank in range(world_size)))


def plan_placements(profile: LoadProfile, topology: Topology, options: ExpertsOptions) -> Plan:
    """The placement that `options` ask for.

    Raises `UsageError` for one rank, and for hot experts that the model does not have.
    """
    model, world_size = profile.model, len(topology.node_of_rank)
    if world_size == 1:
        raise UsageError("one rank holds every expert: there is nothing to place; plan for more with --world-size N")
    even = same_for_all(even_split(model.num_experts, world_size), model.num_layers)
    if options.hot_experts is not None:
        return Plan(replicate_in_layers(even, options.hot_experts, topology), "an even split, with --hot-experts")
    budget = options.replica_memory
    if budget is None:
        budget = default_budget(even, model.expert_bytes)
    rates = _rates(options)
    words = f"up to {size(budget)} of replicas a rank, chosen for {_rate_words(options, rates)}"
    return Plan(_least_time(profile, even, topology, rates, budget), words)


def _least_time(
    profile: LoadProfile, even: Sequence[Placement], topology: Topology, rates: Rates, budget: int
) -> tuple[Placement, ...]:
    """Experts at home by the even split or by their load, and then replicas: what is predicted to be quicker.

    By load, ranks have equally much to do; evenly, what an expert's own rank asks of it may stay there.
    """
    world_size, model = len(topology.node_of_rank), profile.model
    shape = ExpertShape(model.dim, model.hidden_dim, model.expert_bytes, model.row_bytes, model.top_k)
    demand_LWE = _rows_of_a_step(profile, world_size)
    by_load = [balanced_homes(rows_E, world_size) for rows_E in profile.rows_LE]
    plans = [rebalance(demand_LWE, homes, topology, rates, shape, budget) for homes in (even, by_load)]

    def seconds(placements: Sequence[Placement]) -> float:
        layers = zip(demand_LWE, placements, strict=True)
        return sum(layer_time(rows_WE, placement, topology, rates, shape).total for rows_WE, placement in layers)

    return min(plans, key=seconds)


def _rows_of_a_step(profile: LoadProfile, world_size: int) -> Demand:
    demand_LWE = profile.demand_of(world_size)
    return [[[rows / profile.steps for rows in rows_E] for rows_E in rows_WE] for rows_WE in demand_LWE]


def _rates(options: ExpertsOptions) -> Rates:
    """What was given, and else `ASSUMED`; a rank that computes faster is taken to read its weights faster as well."""
    compute = options.compute_rate or ASSUMED.compute
    return Rates(
        node_bandwidth=max(ASSUMED.node_bandwidth, options.net_bandwidth or 0),
        network_bandwidth=options.net_bandwidth or ASSUMED.network_bandwidth,
        node_latency=ASSUMED.node_latency,
        network_latency=ASSUMED.network_latency,
        compute=compute,
        weight_bandwidth=ASSUMED.weight_bandwidth * compute / ASSUMED.compute,
    )


def _rate_words(options: ExpertsOptions, rates: Rates) -> str:
    def source(given: float | None) -> str:
        return " (assumed)" if given is None else ""

    compute = f"{rates.compute / 1e9:,.4g} GFLOP/s a rank{source(options.compute_rate)}"
    return f"{compute} and {size(int(rates.network_bandwidth))}/s between nodes{source(options.net_bandwidth)}"
