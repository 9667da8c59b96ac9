"""The strategies in a report: what was in force, who asked for it, and what it did."""

from collections.abc import Mapping
from typing import Any

from mixtralkit.cli.chosen_strategies import NAMES
from mixtralkit.moe.strategies import Strategies
from mixtralkit.sizes import counted, size

BY_DEFAULT = "default"
BY_OPTIONS = "options"  # made in Python, with no flag to name


def strategy_document(strategies: Strategies, effects: Mapping[str, str] | None = None) -> dict[str, Any]:
    """As JSON, by field: the value, its `source`, and the `effect`, which is None where `effects` has nothing of it.

    It holds the fields that were asked for and those that `effects`, texts by field, tells of.
    """
    effects = effects or {}
    return {
        name: {
            "value": _plain(strategies, name),
            "source": strategies.sources.get(name, BY_OPTIONS if strategies.given(name) else BY_DEFAULT),
            "effect": effects.get(name),
        }
        for name in NAMES
        if strategies.given(name) or name in effects
    }


def strategy_lines(strategies: Strategies, effects: Mapping[str, str] | None = None) -> list[str]:
    """For people, a line a strategy: overlap auto (--overlap): hid 63 % of the communication."""
    told = strategy_document(strategies, effects)
    return [_line(strategies, name, facts["source"], facts["effect"]) for name, facts in told.items()]


def _line(strategies: Strategies, name: str, source: str, effect: str | None) -> str:
    value = f"{name.replace('_', ' ')} {_shown(strategies, name)} ({source})"
    return value if effect is None else f"{value}: {effect}"


def _plain(strategies: Strategies, name: str) -> Any:
    """The value as JSON has it."""
    value = getattr(strategies, name)
    if name == "hot_experts":
        return [{"layer": layer, "experts": list(experts)} for layer, experts in value]
    return str(value) if strategies.plan_file is not None and name == "placement" else value


def _shown(strategies: Strategies, name: str) -> str:
    """The value for people, with its unit."""
    value = getattr(strategies, name)
    if value is None:
        return "auto"
    if name == "hot_experts":
        return "; ".join(_layer_of_hot(*part) for part in value) or "none"
    if name in ("replica_memory", "network_bandwidth"):
        return size(int(value)) + ("/s" if name == "network_bandwidth" else "")
    if name == "compute_rate":
        return f"{value / 1e9:,.4g} GFLOP/s"
    if name == "overlap" and isinstance(value, int):
        return counted(value, "chunk")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _layer_of_hot(layer: int | None, experts: tuple[int, ...]) -> str:
    where = "" if layer is None else f"layer {layer}: "
    return where + ", ".join(map(str, experts))
