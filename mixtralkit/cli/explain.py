"""`--explain`: what was chosen for the steps of a run, and what the alternatives would have taken, as JSON."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mixtralkit.cli.explain_reason import reason
from mixtralkit.cli.rates_text import rates_document
from mixtralkit.dist.launch import Group
from mixtralkit.dist.unbooked import unbooked
from mixtralkit.engine.stats import Phase
from mixtralkit.moe.alternatives import Alternative, Placements, alternatives, different, loaded
from mixtralkit.moe.dispatch.all_gather import AllGatherDispatch
from mixtralkit.moe.dispatch.collective import CollectiveDispatch
from mixtralkit.moe.dispatch.hierarchical import HierarchicalDispatch
from mixtralkit.moe.dispatch.nccl import NcclDispatch
from mixtralkit.moe.dispatch.obstacles import obstacles
from mixtralkit.moe.dispatch.peer import PeerDispatch
from mixtralkit.moe.placement.cost import Rates
from mixtralkit.moe.placement.plan import even_split, same_for_all
from mixtralkit.moe.placement.rebalance import Demand, rebalance
from mixtralkit.moe.shared_load import share_load
from mixtralkit.moe.steering_setup import cuts_of, measured_rates, replica_budget
from mixtralkit.moe.step_choice import CUTS, StepChooser
from mixtralkit.moe.strategies import Strategies
from mixtralkit.moe.trials import REPEATS, Trials
from mixtralkit.session.session import Session

LIMIT = 5.0  # seconds of measuring, for each kind of step
EVEN, REBALANCED = "even", "rebalanced"
PEER, OTHERS = PeerDispatch.name, (CollectiveDispatch.name, AllGatherDispatch.name)
HIERARCHICAL, NCCL = HierarchicalDispatch.name, NcclDispatch.name


@dataclass(frozen=True)
class _Case:
    """The typical step of a kind: each rank's tokens, how their rows spread, and the placements there are, by name."""

    tokens_W: list[int]
    demand_LWE: Demand
    placements: dict[str, Placements]
    in_force: str

    def is_loaded(self, name: str) -> bool:
        """Whether the ranks hold what that placement needs."""
        return loaded(self.placements[name], self.placements[self.in_force])


def explain(session: Session) -> dict[str, Any]:
    """The report's part of that name; all ranks call it together, at the end of a run.

    Alternatives are measured in the order of their predicted times, as many as there is time for.
    """
    rates = session.steered.rates
    if rates is None:
        return {"nothing_to_choose": True, "rates": {}, "steps": {}}
    chooser = session.steered.steering.chooser or StepChooser(
        dispatches=(session.dispatch.name,),
        cuts=cuts_of(session.strategies, session.group),
        topology=session.spread.arrangement.topology,
        rates=rates,
        shape=session.steered.shape,
    )
    stats = session.engine.stats
    kinds = {name: phase for name, phase in (("prefill", stats.prefill), ("decode", stats.decode)) if phase.steps}
    with unbooked(session.group.collectives, session.group.control):
        known = _rates_of_dispatches(session, rates)
        steps = {name: _explain_step(session, chooser, known, phase) for name, phase in kinds.items()}
    ways = {"peer": known[PEER]} if PEER in known else {}
    ways["collectives"] = known[OTHERS[0]]
    told = {way: rates_document(its_rates, session.strategies) for way, its_rates in ways.items()}
    return {"nothing_to_choose": False, "rates": told, "steps": steps}


def _rates_of_dispatches(session: Session, rates: Rates) -> dict[str, Rates]:
    """Of each dispatch that is possible here, given those that were measured with the one in use."""
    group = session.group

    def measured(dispatch: str) -> Rates:
        return measured_rates(group, session.strategies, session.spread, session.steered.shape, dispatch)

    problems, chosen = obstacles(group), session.dispatch.name
    nodes = session.spread.arrangement.topology.num_nodes
    relayed = [HIERARCHICAL] if 1 < nodes < group.world_size or chosen == HIERARCHICAL else []
    direct = [NCCL] if NCCL not in problems else []
    known = dict.fromkeys((*OTHERS, *relayed, *direct), rates if chosen != PEER else measured(OTHERS[0]))
    if PEER not in problems:
        known[PEER] = rates if chosen == PEER else measured(PEER)
    return known


def _explain_step(session: Session, run: StepChooser, rates: Mapping[str, Rates], phase: Phase) -> dict[str, Any]:
    """For the mean of the steps of `phase`; `run` is what chose in the run."""
    session.group.at("measuring alternatives")
    case = _case(session, rates[session.dispatch.name], phase)
    found = _alternatives(session, case, rates)
    choice = run.choose_for(case.placements[case.in_force], case.demand_LWE, case.tokens_W)
    here = {(each.dispatch, each.parts): each for each in found if each.placement == case.in_force}
    chosen = here[choice.dispatch, choice.parts]
    ordered = [chosen, *sorted((each for each in found if each != chosen), key=lambda each: each.predicted)]
    layers = session.model.config.num_layers
    measured_layers = _affordable(case, ordered, layers)
    times = _measure(session, case, ordered, measured_layers)
    return {
        "tokens_of_ranks": case.tokens_W,
        "layers": layers,
        "layers_measured": measured_layers,
        "why": reason(session, choice, min(here[name, 1].predicted for name in run.dispatches), run.dispatches),
        "alternatives": [
            _row(each, None if seconds is None else seconds * layers / measured_layers, each == chosen)
            for each, seconds in zip(ordered, times, strict=True)
        ],
    }


def _case(session: Session, rates: Rates, phase: Phase) -> _Case:
    """A rank that had any tokens has one at least."""
    steered, config, world_size = session.steered, session.model.config, session.group.world_size
    tokens_W = [max(round(tokens / phase.steps), min(tokens, 1)) for tokens in phase.tokens_W]
    demand = share_load(session.group.control, session.load, sum(tokens_W) * steered.shape.top_k)
    even = same_for_all(even_split(config.num_experts, world_size), config.num_layers)
    budget = replica_budget(session.strategies, even, steered.shape)
    rebalanced = rebalance(demand, even, session.spread.arrangement.topology, rates, steered.shape, budget)
    placed = steered.steering.placements
    placements = different({EVEN: even, _name_of(session.strategies): placed, REBALANCED: rebalanced})
    in_force = next(name for name, candidate in placements.items() if tuple(candidate) == placed)
    return _Case(tokens_W, demand, placements, in_force)


def _name_of(strategies: Strategies) -> str:
    """What the placement in force is called, where it is not the even split."""
    if strategies.hot_experts:
        return "hot experts"
    return "adaptive" if strategies.adaptive else "plan"


def _alternatives(session: Session, case: _Case, rates: Mapping[str, Rates]) -> list[Alternative]:
    return alternatives(
        case.placements,
        rates,
        _cuts(session.strategies, session.group),
        session.spread.arrangement.topology,
        session.steered.shape,
        case.demand_LWE,
        case.tokens_W,
    )


def _cuts(strategies: Strategies, group: Group) -> tuple[int, ...]:
    """Those that the run chose from, or could have; a capacity goes with none."""
    if strategies.drops_rows:
        return (1,)
    chosen_from = cuts_of(strategies, group)
    return CUTS if chosen_from == (1,) else tuple(sorted({1, *chosen_from}))


def _affordable(case: _Case, found: Sequence[Alternative], layers: int) -> int:
    """How many layers can be measured for all that can be, if predictions are right."""
    whole = sum(each.predicted for each in found if case.is_loaded(each.placement)) * (1 + REPEATS)
    return max(1, min(layers, int(LIMIT * layers / max(whole, 1e-9))))


def _measure(session: Session, case: _Case, found: Sequence[Alternative], layers: int) -> list[float | None]:
    """Seconds of that many layers; None for what there is no time for, and where experts would have to be fetched."""
    trials = Trials(
        control=session.group.control,
        arrangement=session.spread.arrangement,
        demand_LWE=case.demand_LWE,
        tokens_W=case.tokens_W,
        top_k=session.steered.shape.top_k,
        width=session.steered.shape.width,
        num_layers=layers,
        group_size=session.spread.overlap.group_size,
    )
    began = time.perf_counter()
    times: list[float | None] = []
    for each in found:
        elapsed = session.group.control.all_gather_json(time.perf_counter() - began)
        possible = max(elapsed) < LIMIT and case.is_loaded(each.placement)  # all ranks stop together
        placements = case.placements[each.placement]
        times.append(trials.seconds(placements, each.dispatch, each.parts) if possible else None)
    return times


def _row(each: Alternative, measured: float | None, chosen: bool) -> dict[str, Any]:
    return {
        "placement": each.placement,
        "dispatch": each.dispatch,
        "parts": each.parts,
        "predicted_seconds": each.predicted,
        "measured_seconds": measured,
        "error": None if measured is None else each.predicted / measured - 1,
        "chosen": chosen,
    }
