"""`mixtralkit bench` of one variant, on the ranks that it was started with."""

from typing import Any

from mixtralkit.bench.bench_run import Plan, bench_run
from mixtralkit.cli.bench_options import BenchOptions
from mixtralkit.cli.bench_outputs import document, write_all
from mixtralkit.cli.bench_source import source_of
from mixtralkit.cli.bench_table import case_name
from mixtralkit.cli.ranks import run_on_ranks
from mixtralkit.cli.terminal import aside
from mixtralkit.dist.launch import Group
from mixtralkit.env import fastermoe_variables
from mixtralkit.errors import UsageError
from mixtralkit.log import get_logger, notice

_logger = get_logger(__name__)


def bench_here(options: BenchOptions, torch_seconds: float) -> int:
    """Measure and show; returns the exit status. `torch_seconds` is what importing torch took."""
    return run_on_ranks("bench", options, lambda group: _bench(group, options, torch_seconds))


def _bench(group: Group, options: BenchOptions, torch_seconds: float) -> None:
    if set_ := ", ".join(fastermoe_variables()):
        notice(_logger, f"bench measures without strategies: {set_} {'is' if ',' not in set_ else 'are'} not looked at")
    source = source_of(options)
    _check_prefill(options, source.config.context)
    plan = Plan(
        prefill=options.prefill,
        batch_sizes=options.batch_sizes,
        dispatches=options.dispatch,
        repeats=options.repeats,
        layers=options.layers,
        round_trips=options.round_trips,
    )
    run = bench_run(
        group,
        plan,
        lambda: source.open(group),
        torch_seconds=torch_seconds,
        on_figure=_tell if group.rank == 0 else lambda figure: None,
    )
    if group.rank == 0:
        write_all(options, document(source.facts(), [run]))


def _check_prefill(options: BenchOptions, context: int) -> None:
    """Raise `UsageError` for a prompt that the model is not made for; the weights need not be there yet."""
    if (longest := max(options.prefill)) > context:
        raise UsageError(f"--prefill {longest} is beyond the model's context of {context:,} tokens; give fewer")


def _tell(figure: dict[str, Any]) -> None:
    aside(f"{case_name(figure)}: {figure['milliseconds']['median']:.2f} ms")
