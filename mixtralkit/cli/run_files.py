"""The files that a run was asked for besides its text."""

from mixtralkit.cli.gather_profile import gather_profile
from mixtralkit.cli.options import ChatOptions, GenerateOptions
from mixtralkit.cli.serve_options import ServeOptions
from mixtralkit.cli.trace_file import write_trace
from mixtralkit.log import get_logger, notice
from mixtralkit.moe.load_profile import write_profile
from mixtralkit.session.session import Session

_logger = get_logger(__name__)


def write_run_files(session: Session, options: GenerateOptions | ChatOptions | ServeOptions) -> None:
    """Rank 0 writes what --trace and --expert-load ask for; all ranks call it together, at the end of a run.

    Raises `UsageError` when a file cannot be written.
    """
    if options.trace is not None:
        session.group.at("writing the trace")
        write_trace(session, options.trace)
    if options.expert_load is not None:
        session.group.at("writing the experts' load")
        profile = gather_profile(session, options.model_weights.resolve().name)
        if profile.steps == 0:
            notice(_logger, f"nothing ran, so that there is no load to write to {options.expert_load}")
        elif session.group.rank == 0:
            write_profile(profile, options.expert_load)
