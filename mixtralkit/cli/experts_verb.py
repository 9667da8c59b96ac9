"""`mixtralkit experts`: how the rows of a run fall on experts and ranks, and what another placement makes of it."""

import json
from pathlib import Path

from mixtralkit.cli.bench_outputs import check_plot
from mixtralkit.cli.experts_document import experts_document
from mixtralkit.cli.experts_options import ExpertsOptions
from mixtralkit.cli.experts_plan import Plan, plan_placements, target_topology
from mixtralkit.cli.experts_text import experts_text
from mixtralkit.cli.terminal import say, shows_colours
from mixtralkit.env import launch_env
from mixtralkit.errors import UsageError
from mixtralkit.moe.load_profile import LoadProfile, read_profile, write_profile
from mixtralkit.moe.placement.plan_file import write_plan


def experts(options: ExpertsOptions) -> int:
    """Run the verb; returns the exit status."""
    check_plot(options.plot)
    if options.profile is not None:
        return _from_profile(options, options.profile)
    from mixtralkit.cli.experts_run import measure_on_ranks

    return measure_on_ranks(options, lambda profile: _tell(options, profile))


def _from_profile(options: ExpertsOptions, file: Path) -> int:
    if launch_env().world_size > 1:
        raise UsageError("--profile needs no ranks; start 'mixtralkit experts' without torchrun")
    _tell(options, read_profile(file))
    return 0


def _tell(options: ExpertsOptions, profile: LoadProfile) -> None:
    """Show the load, and write what `options` ask for; on one rank only."""
    if options.save is not None:
        write_profile(profile, options.save)
    topology = target_topology(profile, options)
    plan = plan_placements(profile, topology, options) if options.plans else None
    document = experts_document(profile, topology, plan)
    say(json.dumps(document) if options.report == "json" else experts_text(document, coloured=shows_colours()))
    if plan is not None and options.plan is not None:
        _write_plan(plan, options.plan)
    if options.plot is not None:
        from mixtralkit.cli.experts_plot import plot

        plot(document, options.plot)


def _write_plan(plan: Plan, file: Path) -> None:
    try:
        write_plan(file, plan.placements)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from error
