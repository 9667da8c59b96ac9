"""What a step could do else: the dispatches, cuts and placements that there are, each with its predicted time. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mixtralkit.dist.topology import Topology
from mixtralkit.moe.placement.cost import ExpertShape, Rates
from mixtralkit.moe.placement.plan import Placement
from mixtralkit.moe.placement.rebalance import Demand
from mixtralkit.moe.step_choice import StepChooser

Placements = Sequence[Placement]  # one a layer


@dataclass(frozen=True)
class Alternative:
    """One way to do a step, and the seconds predicted for all its MoE layers; `placement` is a name."""

    placement: str
    dispatch: str
    parts: int
    predicted: float


def different(placements: Mapping[str, Placements]) -> dict[str, Placements]:
    """Those of different contents; of equal ones the first."""
    found: dict[str, Placements] = {}
    for name, candidate in placements.items():
        if tuple(candidate) not in map(tuple, found.values()):
            found[name] = candidate
    return found


def loaded(wanted: Placements, in_force: Placements) -> bool:
    """Whether all ranks hold what `wanted` needs already."""
    return all(
        set(experts) <= set(here.experts_of(rank))
        for there, here in zip(wanted, in_force, strict=True)
        for rank, experts in enumerate(there.experts_of_rank)
    )


def alternatives(
    placements: Mapping[str, Placements],
    rates: Mapping[str, Rates],
    cuts: Sequence[int],
    topology: Topology,
    shape: ExpertShape,
    demand_LWE: Demand,
    tokens_W: Sequence[int],
) -> list[Alternative]:
    """All of them, for a step in which rank w has `tokens_W[w]` tokens whose rows spread as `demand_LWE` does.

    `rates` are those of each dispatch: some send rows over links of the network, and some through memory.
    """
    found = []
    for dispatch, its_rates in rates.items():
        chooser = StepChooser(dispatches=[dispatch], cuts=cuts, topology=topology, rates=its_rates, shape=shape)
        for name, candidate in placements.items():
            chooser.place(candidate, demand_LWE)
            choices = chooser.alternatives(tokens_W)
            found += [Alternative(name, dispatch, choice.parts, choice.seconds) for choice in choices]
    return found
