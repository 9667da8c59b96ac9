"""The strategies in force: those of the flags, then those of FasterMoE's variables, then the defaults."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from mixtralkit import fastermoe_env as fmoe
from mixtralkit.fastermoe_env import FasterMoeEnv
from mixtralkit.moe.strategies import Strategies

# The fields of Strategies, by the flags and the variables that set them.
NAMES = tuple(item.name for item in fields(Strategies) if item.name != "sources")
FLAGS = {name: "--" + name.replace("_", "-") for name in NAMES} | {"network_bandwidth": "--net-bandwidth"}
VARIABLES = {
    "overlap": fmoe.SCHEDULE_ENABLE,
    "group_size": fmoe.GROUP_SIZE,
    "placement": fmoe.SHADOW_ENABLE,
    "network_bandwidth": fmoe.NETBW,
    "compute_rate": fmoe.GPUTP,
    "alpha": fmoe.ALPHA,
    "d_model": fmoe.DMODEL,
    "ranks_per_node": fmoe.GPUS_PER_NODE,
    "outgoing_fraction": fmoe.OUTGOING_FRACTION,
}


def choose_strategies(flags: Mapping[str, Any], env: FasterMoeEnv) -> Strategies:
    """The strategies of `flags`, a value a field with None for those that were not given, and of the variables.

    A flag goes before the variable of the same meaning, and before one that contradicts it. Raises `UsageError` like
    `Strategies`.
    """
    typed = {name: value for name, value in flags.items() if value is not None}
    from_variables = {name: value for name, value in variable_values(env).items() if value is not None}
    aside = ruled_out(flags)
    values = {name: value for name, value in from_variables.items() if name not in aside} | typed
    sources = {name: FLAGS[name] if name in typed else VARIABLES[name] for name in values}
    if values.get("group_size") == "auto":
        values["group_size"] = None
    return Strategies(**values, sources=sources)


def variable_values(env: FasterMoeEnv) -> dict[str, Any]:
    """What the variables ask of each field that they can set, None where one is not set."""
    return {
        "overlap": _switched(env.schedule_enable, "auto", "off"),
        "group_size": env.group_size,
        "placement": _switched(env.shadow_enable, "adaptive", "even"),
        "network_bandwidth": env.net_bandwidth,
        "compute_rate": env.compute_rate,
        "alpha": env.alpha,
        "d_model": env.d_model,
        "ranks_per_node": env.gpus_per_node,
        "outgoing_fraction": env.outgoing_fraction,
    }


def ruled_out(flags: Mapping[str, Any]) -> dict[str, str]:
    """The fields whose variables would contradict `flags`, and the flag: a script's variables were not meant for it."""
    by_chunks = {"group_size": FLAGS["overlap"]} if isinstance(flags["overlap"], int) else {}
    by_hand = {"placement": FLAGS["hot_experts"]} if flags["hot_experts"] is not None else {}
    limits = [name for name in ("capacity_factor", "capacity_cold") if flags[name] is not None]
    by_capacity = {"overlap": FLAGS[limits[0]]} if limits else {}
    return by_chunks | by_hand | by_capacity


def strategy_beliefs(strategies: Strategies) -> dict[str, str]:
    """What all ranks must have in common of `strategies`, by flag and variable.

    Each node may keep its plan in a place of its own, so only that there is one is compared here.
    """
    shown = {name: str(getattr(strategies, name)) for name in NAMES}
    if strategies.plan_file is not None:
        shown["placement"] = "a file"
    return {_both_names(name): value for name, value in shown.items()}


def _both_names(name: str) -> str:
    return f"{FLAGS[name]} or {VARIABLES[name]}" if name in VARIABLES else FLAGS[name]


def _switched(state: bool | None, on: str, off: str) -> str | None:
    return None if state is None else on if state else off
