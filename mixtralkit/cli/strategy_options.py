"""The strategies' options: a section of the verbs that answer prompts. Like options.py, without torch."""
# ruff: noqa: RUF009 - option() is dataclasses.field() with a name of ours

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mixtralkit.cli.chosen_strategies import FLAGS, NAMES, VARIABLES, choose_strategies
from mixtralkit.cli.option import option
from mixtralkit.cli.strategy_values import group_size, hot_experts, overlap, placement
from mixtralkit.cli.values import one_of, path, switch, whole
from mixtralkit.errors import UsageError
from mixtralkit.fastermoe_env import fastermoe_env
from mixtralkit.moe.strategies import CAPACITY_MIN, HotExperts, OverlapChoice, PlacementChoice, Strategies
from mixtralkit.quantities import above_zero, bandwidth, byte_count, compute_rate, fraction


def _strategy(field: str, explanation: str, metavar: str, parse: Callable[[str], Any]) -> Any:
    """An option that sets `field` of the strategies where it is given, as does the variable that its help names."""
    variable = f" [{VARIABLES[field]}]" if field in VARIABLES else ""
    return option(explanation + variable, metavar=metavar, parse=parse, default=None)


@dataclass(frozen=True, kw_only=True)
class StrategyOptions:
    """strategies; [NAME] is the environment's variable for the same, which a flag goes before."""

    overlap: OverlapChoice | None = _strategy(
        "overlap",
        "off, auto or N: rows travel while others are computed, in N chunks; auto cuts where that is faster; by "
        "default off",
        "N",
        overlap,
    )
    group_size: int | Literal["auto"] | None = _strategy(
        "group_size",
        "overlap by groups of N ranks instead of chunks of rows; by default auto, which is chunks",
        "N",
        group_size,
    )
    placement: PlacementChoice | None = _strategy(
        "placement",
        "which rank holds which experts: even, adaptive (hot experts are replicated while running) or the file of a "
        "plan; by default even",
        "NAME",
        placement,
    )
    hot_experts: HotExperts | None = _strategy(
        "hot_experts", "experts that every rank holds: 0,3 in all layers, or by layer 0:1,2;5:3", "LIST", hot_experts
    )
    hot_scope: Literal["rank", "node"] | None = _strategy(
        "hot_scope",
        "rank or node: whether every rank holds the hot experts or one of every node; by default rank",
        "NAME",
        one_of("rank", "node"),
    )
    replica_memory: int | None = _strategy(
        "replica_memory",
        "what a rank may spend on replicas, such as 2GiB; by default a quarter of its experts' bytes, for those chosen "
        "while running",
        "BYTES",
        byte_count,
    )
    net_bandwidth: float | None = _strategy(
        "network_bandwidth",
        "of one node's network, instead of measuring it: 1.25GB/s, 10Gbit/s; without a unit GB/s below 100,000, else "
        "bytes/s",
        "RATE",
        bandwidth,
    )
    compute_rate: float | None = _strategy(
        "compute_rate",
        "of one rank in expert products, instead of measuring it: 11.5TFLOPS; without a unit TFLOP/s below 1,000,000, "
        "else FLOP/s",
        "RATE",
        compute_rate,
    )
    alpha: float | None = _strategy(
        "alpha", "the experts' hidden width over the model's, to compare with the checkpoint's", "X", above_zero
    )
    d_model: int | None = _strategy("d_model", "the model's width, to compare with the checkpoint's", "N", whole(1))
    ranks_per_node: int | None = _strategy(
        "ranks_per_node", "take N consecutive ranks for a node; by default the hosts are the nodes", "N", whole(1)
    )
    outgoing_fraction: float | None = _strategy(
        "outgoing_fraction",
        "at most this share, 0 to 1, of a rank's rows leaves its node, and the gate chooses again for the others, "
        "which changes the model",
        "X",
        fraction,
    )
    capacity_factor: float | None = _strategy(
        "capacity_factor",
        "an expert takes at most X times its even share of the rows of a rank's step; the others are dropped, which "
        "may change the text",
        "X",
        above_zero,
    )
    capacity_min: int | None = _strategy(
        "capacity_min", f"but never fewer than N rows; by default {CAPACITY_MIN}", "N", whole(0)
    )
    capacity_cold: float | None = _strategy(
        "capacity_cold", "the capacity factor of experts that the rank does not hold itself", "X", above_zero
    )
    trace: Path | None = option(
        "write a Chrome trace with a line a rank, for chrome://tracing or ui.perfetto.dev",
        metavar="FILE",
        parse=path,
        default=None,
    )
    explain: bool = option(
        "tell which dispatch, overlap and placement were chosen, and the times of the alternatives",
        metavar="",
        parse=switch,
        switch=True,
        default=False,
    )
    expert_load: Path | None = option(
        "write how many rows each expert got, for 'mixtralkit experts'", metavar="FILE", parse=path, default=None
    )

    @property
    def flags(self) -> dict[str, Any]:
        """What was typed, by field of `Strategies`; None for what was not."""
        return {name: getattr(self, FLAGS[name].removeprefix("--").replace("-", "_")) for name in NAMES}

    @property
    def strategies(self) -> Strategies:
        """What is in force: the flags, and for what they leave open the variables.

        Raises `UsageError` for a variable's bad value and for a contradiction.
        """
        return choose_strategies(self.flags, fastermoe_env())

    def check_outputs(self) -> None:
        """Raise `UsageError` when --trace or --expert-load could not be written; for rank 0, which writes them."""
        for flag, file in (("--trace", self.trace), ("--expert-load", self.expert_load)):
            if file is not None and file.is_dir():
                raise UsageError(f"{flag} is {file}, which is a folder; the name of a file is needed")
            if file is not None and not file.parent.is_dir():
                raise UsageError(f"{flag} is {file}, and there is no folder {file.parent}")
