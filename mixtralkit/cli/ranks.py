"""Runs a verb on all ranks: those that a launcher started, those that --nproc asks for, or this one alone."""

import sys
from collections.abc import Callable
from dataclasses import fields
from typing import TypeAlias

from mixtralkit.cli.arguments import words_of
from mixtralkit.cli.bench_options import BenchOptions
from mixtralkit.cli.chosen_strategies import strategy_beliefs
from mixtralkit.cli.experts_options import ExpertsOptions
from mixtralkit.cli.options import ChatOptions, GenerateOptions, RankOptions
from mixtralkit.cli.serve_options import ServeOptions
from mixtralkit.cli.strategy_options import StrategyOptions
from mixtralkit.cli.terminal import complain
from mixtralkit.dist.launch import Group, LaunchOptions
from mixtralkit.dist.run_rank import run_rank
from mixtralkit.env import launch_env
from mixtralkit.errors import MixtralKitError, UsageError

RankedOptions: TypeAlias = GenerateOptions | ChatOptions | BenchOptions | ExpertsOptions | ServeOptions
RANKS = tuple(item.name for item in fields(RankOptions))
# What may differ between ranks: where a node keeps its files, how it was launched, and what only rank 0 looks at.
OWN = {
    *RANKS,
    *("model_weights", "tokenizer", "prompt", "prompt_file", "system"),
    *("host", "port", "model_name", "api_key_file", "max_waiting", "request_timeout", "shutdown_timeout", "access_log"),
}
# Compared as they are in force, be it by a flag or by a variable.
STRATEGIES = {item.name for item in fields(StrategyOptions) if item.name != "explain"}


class OutputClosed(MixtralKitError):
    """Nobody reads what rank 0 writes any more."""

    exit_status = 141


def run_on_ranks(
    verb: str,
    options: RankedOptions,
    work: Callable[[Group], None],
    *,
    on_stop: Callable[[], None] | None = None,
    on_failure: Callable[[str], None] | None = None,
) -> int:
    """Run `work` on every rank, where `options` of `verb` say; returns the exit status of this process.

    `on_stop` and `on_failure` are run_rank's: what a server does when it is told to stop, or a rank is lost.
    """
    if options.nproc is not None:
        return _launch(verb, options, options.nproc, forward_signals=on_stop is not None)
    launch = LaunchOptions(
        device=options.device,
        collective_timeout=options.timeout,
        join_timeout=options.timeout,
        beliefs=beliefs(options),
    )

    def main(group: Group) -> int:
        try:
            work(group)
        except BrokenPipeError as error:
            if group.world_size == 1:
                raise  # ends quietly, as other programs do; of several ranks, the others must hear of it
            raise OutputClosed("the standard output was closed") from error
        return 0

    return run_rank(main, launch, complain, on_stop=on_stop, on_failure=on_failure)


def beliefs(options: RankedOptions) -> dict[str, str]:
    """The options that all ranks must have in common, by flag; of the strategies, what variables ask for as well."""
    in_force = _strategies(options)
    elsewhere = OWN | STRATEGIES if in_force else OWN
    shared = [item.name for item in fields(options) if item.name not in elsewhere]
    return {"--" + name.replace("_", "-"): str(getattr(options, name)) for name in shared} | in_force


def _strategies(options: RankedOptions) -> dict[str, str]:
    """The strategies in force, and which files the ranks make together for rank 0 to write."""
    if isinstance(options, ExpertsOptions):
        return strategy_beliefs(options.run_options().strategies)
    if not isinstance(options, StrategyOptions):
        return {}
    files = {"--trace": options.trace, "--expert-load": options.expert_load}
    written = {flag: "not given" if file is None else "given" for flag, file in files.items()}
    return strategy_beliefs(options.strategies) | written


def _launch(verb: str, options: RankedOptions, nproc: int, *, forward_signals: bool) -> int:
    if launch_env().world_size > 1 or launch_env().under_torchrun:
        raise UsageError("--nproc starts ranks, but torchrun has done that already; use one of the two")
    # torch's launcher takes a tenth of a second to import, and who starts no ranks does without it.
    from mixtralkit.dist.launcher import DEFAULT_PORT, NodeOptions, launch_ranks

    nodes = NodeOptions(
        nproc=nproc,
        nnodes=options.nnodes,
        node_rank=options.node_rank,
        master_addr=options.master_addr,
        master_port=options.master_port or DEFAULT_PORT,
        join_timeout=options.timeout,
    )
    command = [sys.executable, "-m", "mixtralkit.cli.main", verb, *words_of(options, without=RANKS)]
    return launch_ranks(command, nodes, complain, forward_signals=forward_signals)
