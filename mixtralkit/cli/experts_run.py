"""The run whose load `mixtralkit experts` shows: prompts are answered, and nobody reads the responses."""

from collections.abc import Callable

from mixtralkit.cli.experts_options import ExpertsOptions
from mixtralkit.cli.gather_profile import gather_profile
from mixtralkit.cli.generate import answer, requests_of
from mixtralkit.cli.options import GenerateOptions
from mixtralkit.cli.patience import from_rank_0
from mixtralkit.cli.prompts import read_prompts
from mixtralkit.cli.ranks import run_on_ranks
from mixtralkit.cli.session_settings import load_session
from mixtralkit.cli.strategy_notices import notice_strategies
from mixtralkit.dist.launch import Group
from mixtralkit.moe.load_profile import LoadProfile


def measure_on_ranks(options: ExpertsOptions, tell: Callable[[LoadProfile], None]) -> int:
    """Answer the prompts on all ranks, then `tell` of the load on rank 0; returns the exit status."""
    run = options.run_options()

    def work(group: Group) -> None:
        profile = _measure(group, run)
        if group.rank == 0:
            tell(profile)

    return run_on_ranks("experts", options, work)


def _measure(group: Group, run: GenerateOptions) -> LoadProfile:
    notice_strategies(run)
    group.at("reading the prompts")
    prompts = from_rank_0(group.control, lambda: read_prompts(run.prompt, run.prompt_file))
    session = load_session(group, run, run.batch_size)
    answer(session, run, prompts, requests_of(session, run, prompts))
    return gather_profile(session, run.model_weights.resolve().name)
