"""What the strategies did in a run: gathered from all ranks, as figures and in words."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mixtralkit.cli.rates_text import rates_document
from mixtralkit.cli.strategy_report import strategy_document, strategy_lines
from mixtralkit.moe.placement.balance import balance_of, busiest_over_mean
from mixtralkit.moe.placement.plan import even_split, experts_held
from mixtralkit.moe.steering_setup import cuts_of
from mixtralkit.session.session import Session
from mixtralkit.sizes import counted, seconds, size

Rows = Sequence[Sequence[Sequence[int]]]  # [layer][rank][expert]


def own_figures(session: Session) -> dict[str, Any]:
    """What this rank did, as JSON."""
    group, timeline, host_of_rank = session.group, session.spread.timeline, session.group.topology.node_of_rank
    to_other_hosts = sum(
        nbytes
        for way in (group.collectives, group.control)
        for rank, nbytes in enumerate(way.bytes_to)
        if host_of_rank[rank] != group.node
    )
    return {
        "bytes_between_nodes": to_other_hosts,
        "communication_seconds": timeline.communication,
        "computation_seconds": timeline.computation,
        "hidden_seconds": timeline.hidden,
        "hideable_seconds": timeline.hideable,
        "hideable_seconds_if_cut": timeline.hideable_if_cut,
        "rows_computed": timeline.rows_computed,
        "dropped_rows": int(session.spread.arrangement.dropped_LE.sum()),
    }


def strategy_figures(session: Session, ranks: Sequence[Mapping[str, Any]], rows_LWE: Rows) -> dict[str, Any]:
    """The report's part about strategies, given the `own_figures` of all ranks and the rows of their tokens."""
    total = {name: sum(rank[name] for rank in ranks) for name in ranks[0]}
    steering, rates = session.steered.steering, session.steered.rates
    placements = steering.placements
    figures = {
        **total,
        "hidden_share": _share(total["hidden_seconds"], total["communication_seconds"]),
        "hidden_of_hideable": _share(total["hidden_seconds"], total["hideable_seconds"]),
        "hidden_of_hideable_if_cut": _share(total["hidden_seconds"], total["hideable_seconds_if_cut"]),
        "imbalance": busiest_over_mean([rank["rows_computed"] for rank in ranks]),
        "rows": sum(rows for rows_WE in rows_LWE for rows_E in rows_WE for rows in rows_E),
        "rows_leaving_node": _leaving(session, rows_LWE),
        "replicas": sum(placement.num_copies - placement.num_experts for placement in placements),
        "replica_bytes_of_ranks": _replica_bytes(session),
        "uncut_because": _uncut_because(session),
        "steps": [
            {"dispatch": dispatch, "parts": parts, "count": count}
            for (dispatch, parts), count in sorted(steering.steps.items())
        ],
        "moves": None if steering.adaptive is None else asdict(steering.adaptive.moves),
        "rates": None if rates is None else rates_document(rates, session.strategies),
        "measuring_seconds": session.steered.measuring_seconds,
    }
    effects = _effects(session, figures)
    return {
        **figures,
        "in_force": strategy_document(session.strategies, effects),
        "lines": strategy_lines(session.strategies, effects),
    }


def _effects(session: Session, figures: Mapping[str, Any]) -> dict[str, str]:
    """What each strategy that was asked for did, in words."""
    strategies = session.strategies
    words = {
        "overlap": _overlap(figures),
        "group_size": _groups(session),
        "placement": _placement(figures),
        "hot_experts": _replicas(figures),
        "replica_memory": f"{size(max(figures['replica_bytes_of_ranks']))} of it used on the fullest rank",
        "network_bandwidth": "taken instead of the measured rate",
        "compute_rate": "taken instead of the measured rate",
        "alpha": f"the checkpoint's {session.steered.shape.hidden / session.steered.shape.width:g} is used",
        "d_model": f"the checkpoint's {session.steered.shape.width} is used",
        "ranks_per_node": counted(session.spread.arrangement.topology.num_nodes, "node"),
        "outgoing_fraction": _outgoing(figures),
        "capacity_factor": _dropped(figures),
        "capacity_cold": _dropped(figures),
    }
    return {name: effect for name, effect in words.items() if strategies.given(name)}


def _leaving(session: Session, rows_LWE: Rows) -> int:
    """How many rows leave their node by the placements in force."""
    topology, placements = session.spread.arrangement.topology, session.steered.steering.placements
    layers = zip(rows_LWE, placements, strict=True)
    return round(sum(balance_of(rows_WE, placement, topology).leaving_node for rows_WE, placement in layers))


def _uncut_because(session: Session) -> str:
    """Why a step might not have been cut."""
    if session.group.world_size == 1:
        return "there is one rank, and nothing travels"
    if not session.strategies.overlaps:
        return "as asked"
    if cuts_of(session.strategies, session.group) != (1,):
        return "none was predicted to become faster"
    if session.group.topology.num_nodes == 1 and session.group.device.type == "cpu":
        return "on one host, the cores that would compute meanwhile are those that move the rows"
    return f"all {session.group.world_size} ranks are in one group, so there is one part; a smaller group makes more"


def _outgoing(figures: Mapping[str, Any]) -> str:
    leaving = figures["rows_leaving_node"] / max(figures["rows"], 1)
    return f"{leaving:.1%} of the rows left their node; it changes the model"


def _overlap(figures: Mapping[str, Any]) -> str:
    cut = sum(step["count"] for step in figures["steps"] if step["parts"] > 1)
    steps = sum(step["count"] for step in figures["steps"])
    if not cut:
        return f"cut none of {counted(steps, 'step')}: {figures['uncut_because']}"
    hidden, whole = figures["hidden_seconds"], figures["communication_seconds"]
    return (
        f"cut {cut} of {counted(steps, 'step')} and hid {hidden / max(whole, 1e-9):.0%} of {seconds(whole)} of "
        f"communication ({figures['hidden_of_hideable_if_cut'] or 0:.0%} of what fits under computation in those)"
    )


def _placement(figures: Mapping[str, Any]) -> str:
    moves = figures["moves"]
    if len(figures["replica_bytes_of_ranks"]) == 1:
        return "there is one rank, which holds all experts"
    if moves is None:
        return _replicas(figures)
    refused = f", {moves['replicas_refused']} refused" if moves["replicas_refused"] else ""
    return (
        f"{counted(moves['replicas_fetched'], 'replica')} fetched, {moves['replicas_dropped']} dropped{refused}, "
        f"{counted(moves['switches'], 'change')} of placement; {_replicas(figures)}"
    )


def _replicas(figures: Mapping[str, Any]) -> str:
    fullest = max(figures["replica_bytes_of_ranks"])
    return (
        f"{counted(figures['replicas'], 'replica')}, up to {size(fullest)} a rank; the busiest rank computed "
        f"{figures['imbalance']:.2f} times the mean"
    )


def _dropped(figures: Mapping[str, Any]) -> str:
    dropped, rows = figures["dropped_rows"], figures["rows"]
    if not dropped:
        return f"none of {rows:,} rows dropped"
    return f"{counted(dropped, 'row')} of {rows:,} dropped ({dropped / max(rows, 1):.2%}), which may change the text"


def _groups(session: Session) -> str:
    world_size, group_size = session.group.world_size, session.strategies.group_size
    groups = 1 if group_size is None else -(-world_size // group_size)
    alone = ", so there is nothing to overlap; smaller groups make more" if groups == 1 else ""
    return f"{counted(world_size, 'rank')} in {counted(groups, 'group')}, as many stages{alone}"


def _replica_bytes(session: Session) -> list[int]:
    """Of each rank, what its experts beyond the even split take."""
    placements, world_size = session.steered.steering.placements, session.group.world_size
    home = even_split(placements[0].num_experts, world_size)
    beyond = [experts_held(placements, r) - len(placements) * len(home.experts_of(r)) for r in range(world_size)]
    return [max(0, count) * session.steered.shape.weight_bytes for count in beyond]


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
