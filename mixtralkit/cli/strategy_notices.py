"""What a user should hear of the strategies asked for before anything runs: what has no effect, what changes text."""

from mixtralkit.cli.chosen_strategies import VARIABLES, ruled_out, variable_values
from mixtralkit.cli.near_miss import near_miss
from mixtralkit.cli.strategy_options import StrategyOptions
from mixtralkit.fastermoe_env import KNOWN, FasterMoeEnv, fastermoe_env
from mixtralkit.log import get_logger, notice
from mixtralkit.moe.strategies import Strategies

_logger = get_logger(__name__)
_DECISIONS = "what an automatic overlap, an adaptive placement or --explain predicts, and none of them is on"


def notice_strategies(options: StrategyOptions) -> None:
    """Say, once and on rank 0, what there is to say about the strategies of `options`."""
    for message in strategy_notices(options, fastermoe_env()):
        notice(_logger, message)


def strategy_notices(options: StrategyOptions, env: FasterMoeEnv) -> list[str]:
    """The messages for `options` beside the variables of `env`."""
    strategies = options.strategies
    return [
        *unknown_variables(env),
        *_set_aside(options, env),
        *_without_effect(strategies, options.explain),
        *_changing_text(strategies),
    ]


def unknown_variables(env: FasterMoeEnv) -> list[str]:
    """The FMOE_* variables that mean nothing here, each with what was probably meant."""
    return [f"the environment variable {name} has no meaning here{near_miss(name, KNOWN)}" for name in env.unknown]


def _set_aside(options: StrategyOptions, env: FasterMoeEnv) -> list[str]:
    """Variables that contradict a flag of another meaning."""
    asked, strategies = variable_values(env), options.strategies
    return [
        f"{VARIABLES[name]} has no effect beside {flag}"
        for name, flag in ruled_out(options.flags).items()
        if asked[name] is not None and asked[name] != getattr(strategies, name)
    ]


def _changing_text(strategies: Strategies) -> list[str]:
    """Of capacities; the topology-aware gate speaks for itself. Said beforehand, whichever rank will drop rows."""
    return [
        f"{strategies.source(name)} drops rows over the capacity of an expert, which may change the text; the report "
        "counts them"
        for name in ("capacity_factor", "capacity_cold")
        if getattr(strategies, name) is not None
    ]


def _without_effect(strategies: Strategies, explain: bool) -> list[str]:
    decides = strategies.overlap == "auto" or strategies.adaptive or explain
    needs = {
        "group_size": (strategies.overlaps, "an overlap, which is off"),
        "replica_memory": (strategies.may_replicate, "replicas, and the placement is even"),
        "network_bandwidth": (decides, _DECISIONS),
        "compute_rate": (decides, _DECISIONS),
    }
    return [
        f"{strategies.source(name)} has no effect: it is for {purpose}"
        for name, (served, purpose) in needs.items()
        if strategies.given(name) and not served
    ]
