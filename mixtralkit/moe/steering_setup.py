"""Sets up the strategies of a run: what is in force, measured and decided before the first step."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mixtralkit.config import ModelConfig
from mixtralkit.dist.launch import Group
from mixtralkit.dist.topology import Topology
from mixtralkit.dist.unbooked import unbooked
from mixtralkit.moe.adaptive import AdaptivePlacement, Surroundings
from mixtralkit.moe.arrangement import Arrangement
from mixtralkit.moe.dispatch.peer import PeerDispatch
from mixtralkit.moe.link_rates import exchange_by, exchange_over, measure_rates
from mixtralkit.moe.load import ExpertLoad
from mixtralkit.moe.overlap import Overlap
from mixtralkit.moe.placement.cost import ExpertShape, Rates
from mixtralkit.moe.placement.plan import Placement, even_split, experts_held
from mixtralkit.moe.placement.transfer import Fetch
from mixtralkit.moe.steering import Steering
from mixtralkit.moe.step_choice import CUTS, StepChooser
from mixtralkit.moe.strategies import Strategies
from mixtralkit.moe.timeline import Timeline

BUDGET_SHARE = 4  # without --replica-memory, replicas take at most one part in so many of what a rank's experts take


@dataclass(frozen=True)
class Steered:
    """The steering, what it goes by, and what measuring that took; no rates where nothing needed them."""

    steering: Steering
    shape: ExpertShape
    rates: Rates | None
    measuring_seconds: float


def node_topology(strategies: Strategies, topology: Topology) -> Topology:
    """The nodes that strategies go by: the hosts, unless the user says how many ranks make one."""
    if strategies.ranks_per_node is None:
        return topology
    return Topology(tuple(rank // strategies.ranks_per_node for rank in range(len(topology.node_of_rank))))


def cuts_of(strategies: Strategies, group: Group) -> tuple[int, ...]:
    """The numbers of parts that rows may be cut into; 1 is no overlap.

    Between CPUs of one host nothing is cut but by hand: the cores that move the rows are those that compute.
    """
    if group.world_size == 1 or not strategies.overlaps:
        return (1,)
    if isinstance(strategies.overlap, int):
        return (strategies.overlap,)
    if group.device.type == "cpu" and group.topology.num_nodes == 1:
        return (1,)
    if strategies.group_size is not None:
        return tuple(sorted({1, -(-group.world_size // strategies.group_size)}))
    return CUTS


@dataclass(frozen=True)
class Spread:
    """A loaded model's MoE layers, how they are arranged, and what they tell of themselves."""

    config: ModelConfig
    arrangement: Arrangement
    overlap: Overlap
    timeline: Timeline
    load: ExpertLoad
    placements: tuple[Placement, ...]


def set_up_steering(
    group: Group,
    strategies: Strategies,
    spread: Spread,
    *,
    dispatches: Sequence[str],
    explain: bool,
    fetch: Callable[[], Fetch],
) -> Steered:
    """Measure what decisions need, and make what takes them; all ranks call it together, with the model loaded.

    `dispatches` are those that a step may take. `fetch` makes what gets single experts of the checkpoint.
    """
    shape = _expert_shape(group, spread)
    cuts = cuts_of(strategies, group)
    chooses = len(dispatches) * len(cuts) > 1
    needs_rates = group.world_size > 1 and (chooses or strategies.adaptive or explain)
    started = time.perf_counter()
    rates = measured_rates(group, strategies, spread, shape, spread.arrangement.dispatch) if needs_rates else None
    measuring_seconds = time.perf_counter() - started
    spread.overlap.chunks = cuts[0]
    chooser = adaptive = None
    if rates is not None:
        topology = spread.arrangement.topology
        if chooses:
            chooser = StepChooser(dispatches=dispatches, cuts=cuts, topology=topology, rates=rates, shape=shape)
            chooser.place(spread.placements)
        if strategies.adaptive:
            around = Surroundings(topology, rates, shape, replica_budget(strategies, spread.placements, shape))
            adaptive = _adaptive(group, spread, around, fetch())
    steering = Steering(
        control=group.control,
        load=spread.load,
        arrangement=spread.arrangement,
        overlap=spread.overlap,
        placements=spread.placements,
        chooser=chooser,
        adaptive=adaptive,
    )
    return Steered(steering, shape, rates, measuring_seconds)


def _adaptive(group: Group, spread: Spread, around: Surroundings, fetch: Fetch) -> AdaptivePlacement:
    return AdaptivePlacement(
        control=group.control,
        timeline=spread.timeline,
        homes=spread.placements,
        surroundings=around,
        held=spread.arrangement.held,
        fetch=fetch,
        switch=spread.arrangement.place,
    )


def measured_rates(group: Group, strategies: Strategies, spread: Spread, shape: ExpertShape, dispatch: str) -> Rates:
    """As rows travel by `dispatch`, but for what the user gave; all ranks call it together."""
    group.at("measuring links and experts")
    arrangement, collectives = spread.arrangement, group.collectives
    (routes,) = arrangement.routes([even_split(spread.config.num_experts, group.world_size)])
    if dispatch == PeerDispatch.name and not routes.stays_home:
        exchange = exchange_by(arrangement.bare_dispatch(dispatch, routes), routes, shape.width)
    else:
        exchange = exchange_over(collectives)
    with unbooked(collectives):
        layers = [layer.experts for layer in arrangement.layers]
        rates = measure_rates(exchange, collectives, arrangement.topology, layers, shape)
    if strategies.network_bandwidth is not None:
        rates = replace(rates, network_bandwidth=strategies.network_bandwidth)
    if strategies.compute_rate is not None:
        rates = replace(rates, compute=strategies.compute_rate)
    return rates


def replica_budget(strategies: Strategies, placements: Sequence[Placement], shape: ExpertShape) -> int:
    """Bytes that a rank may spend on replicas."""
    if strategies.replica_memory is not None:
        return strategies.replica_memory
    return default_budget(placements, shape.weight_bytes)


def default_budget(homes: Sequence[Placement], expert_bytes: int) -> int:
    """Bytes for replicas where the user does not say: a part of what the experts of that rank take which has most."""
    most = max(experts_held(homes, rank) for rank in range(homes[0].world_size))
    return most * expert_bytes // BUDGET_SHARE


def _expert_shape(group: Group, spread: Spread) -> ExpertShape:
    """What an expert is, as the ranks keep it; a rank may hold none itself."""
    config = spread.config
    experts = [expert for layer in spread.arrangement.layers for expert in layer.experts.children()]
    nbytes = max((sum(p.nbytes for p in expert.parameters()) for expert in experts), default=0)
    return ExpertShape(
        width=config.dim,
        hidden=config.hidden_dim,
        weight_bytes=max(group.control.all_gather_json(nbytes)),
        row_bytes=4 * config.dim if group.device.type == "cpu" else 2 * config.dim,
        top_k=config.top_k,
    )
