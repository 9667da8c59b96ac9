"""Options of serve. Nothing here imports torch, so that --help and a refusal come at once."""
# ruff: noqa: RUF009 - option() is dataclasses.field() with a name of ours

from dataclasses import dataclass
from pathlib import Path

from mixtralkit.cli.option import option
from mixtralkit.cli.options import EngineOptions, ModelOptions, RankOptions
from mixtralkit.cli.strategy_options import StrategyOptions
from mixtralkit.cli.values import number, path, switch, whole
from mixtralkit.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ServeOptions(ModelOptions, StrategyOptions, EngineOptions, RankOptions):
    """server."""

    host: str = option(
        "where to listen: this machine only, unless you give another address of it, or 0.0.0.0 for all of them",
        metavar="ADDRESS",
        default="127.0.0.1",
    )
    port: int = option("where to listen; 0 is any free port", metavar="N", parse=whole(0, 65535), default=8000)
    model_name: str = option("what clients call the model; by default the folder's name", metavar="NAME", default="")
    api_key_file: Path | None = option(
        "accept the keys in this file, one a line, and only those; the variable MIXTRALKIT_API_KEYS has such keys too, "
        "with commas between them",
        metavar="FILE",
        parse=path,
        default=None,
    )
    batch_size: int = option("requests that a rank works on at a time", metavar="N", parse=whole(1), default=16)
    step_tokens: int = option(
        "tokens that a rank feeds in a step: long prompts go in pieces, so that other responses go on meanwhile",
        metavar="N",
        parse=whole(1),
        default=512,
    )
    max_waiting: int = option(
        "requests that may wait for a place; beyond them clients are told to come again later",
        metavar="N",
        parse=whole(0),
        default=64,
    )
    prefix_reuse: bool = option(
        "share what was computed among prompts that begin alike; =false computes each anew",
        metavar="",
        parse=switch,
        switch=True,
        default=True,
    )
    request_timeout: float = option(
        "give a request up that is not answered by then", metavar="SECONDS", parse=number, default=600.0
    )
    shutdown_timeout: float = option(
        "after SIGTERM or Ctrl-C, how long running requests may take to end; a second signal ends all at once",
        metavar="SECONDS",
        parse=number,
        default=30.0,
    )
    access_log: bool = option(
        "a line of JSON for each request on the standard error; never what it says",
        metavar="",
        parse=switch,
        switch=True,
        default=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_launch()
        _ = self.strategies
        for flag, value in (("--request-timeout", self.request_timeout), ("--shutdown-timeout", self.shutdown_timeout)):
            if value <= 0:
                raise UsageError(f"{flag} is {value:g}; it must be above 0 seconds")
        if self.step_tokens < self.batch_size:
            raise UsageError(
                f"--step-tokens is {self.step_tokens}; each of the {self.batch_size} requests of --batch-size needs one"
            )
