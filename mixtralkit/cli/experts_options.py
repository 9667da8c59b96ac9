"""What `mixtralkit experts` can be told. Like options.py, without torch."""
# ruff: noqa: RUF009 - option() is dataclasses.field() with a name of ours

from dataclasses import dataclass, fields
from pathlib import Path

from mixtralkit.cli.bench_options import PLOTS
from mixtralkit.cli.option import option
from mixtralkit.cli.options import DEVICES, DTYPES, QUANTIZATIONS, SHORTEST_TIMEOUT, GenerateOptions, RankOptions
from mixtralkit.cli.strategy_values import hot_experts
from mixtralkit.cli.values import number, one_of, path, whole
from mixtralkit.errors import UsageError
from mixtralkit.moe.strategies import HotExperts
from mixtralkit.quantities import bandwidth, byte_count, compute_rate

PLANS = (".json",)


@dataclass(frozen=True, kw_only=True)
class LoadRunOptions:
    """a run, where there is no profile."""

    model_weights: Path | None = option(
        "the folder of a checkpoint, whose experts' load is measured",
        metavar="DIR",
        short="-m",
        parse=path,
        default=None,
    )
    prompt: tuple[str, ...] = option(
        "a prompt, with or without --prompt; repeatable; - reads one from the standard input; without any, a few "
        "built-in ones are taken",
        repeatable=True,
        positional=True,
        default=(),
    )
    prompt_file: Path | None = option(
        "a prompt a line; with the ending .jsonl a JSON string a line, or an object with a 'prompt'; - is the standard "
        "input",
        metavar="FILE",
        parse=path,
        default=None,
    )
    max_tokens: int = option(
        "the longest response, in tokens; 1 measures the prompts alone", metavar="N", parse=whole(1), default=16
    )
    batch_size: int = option("requests that a rank works on at a time", metavar="N", parse=whole(1), default=8)
    tokenizer: Path | None = option(
        "the tokenizer.model; by default the one in the checkpoint's folder",
        metavar="FILE",
        short="-t",
        parse=path,
        default=None,
    )
    dtype: str = option(
        f"{', '.join(DTYPES)}; auto keeps the checkpoint's", metavar="NAME", parse=one_of(*DTYPES), default="auto"
    )
    quantize: str | None = option(
        f"{' or '.join(QUANTIZATIONS)}: quantize the weights while they are loaded",
        metavar="KIND",
        parse=one_of(*QUANTIZATIONS),
        default=None,
    )
    device: str = option(
        f"{', '.join(DEVICES)}; auto takes a GPU a rank where there is one",
        metavar="NAME",
        parse=one_of(*DEVICES),
        default="auto",
    )
    timeout: float = option(
        "how long ranks wait for each other before they give up", metavar="SECONDS", parse=number, default=60.0
    )
    save: Path | None = option(
        "write the load that was measured, for --profile", metavar="FILE", parse=path, default=None
    )


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """a placement."""

    world_size: int | None = option(
        "plan for N ranks; by default as many as were measured", metavar="N", parse=whole(1), default=None
    )
    nodes: int | None = option(
        "on N nodes, with equally many ranks each; by default as many as were measured",
        metavar="N",
        parse=whole(1),
        default=None,
    )
    hot_experts: HotExperts | None = option(
        "replicate these on every rank: 0,3 in all layers, or by layer 0:1,2;5:3; the others are spread evenly",
        metavar="LIST",
        parse=hot_experts,
        default=None,
    )
    replica_memory: int | None = option(
        "choose replicas by their gain, of at most this much memory a rank, such as 2GiB",
        metavar="BYTES",
        parse=byte_count,
        default=None,
    )
    net_bandwidth: float | None = option(
        "of one node's network, with --replica-memory: 1.25GB/s, 10Gbit/s; 10Gbit/s is assumed",
        metavar="RATE",
        parse=bandwidth,
        default=None,
    )
    compute_rate: float | None = option(
        "of one rank in expert products, with --replica-memory: 11.5TFLOPS; 100GFLOPS are assumed",
        metavar="RATE",
        parse=compute_rate,
        default=None,
    )
    plan: Path | None = option(
        "write the placement to a .json file, for 'mixtralkit generate --placement FILE'",
        metavar="FILE",
        parse=path,
        default=None,
    )


@dataclass(frozen=True, kw_only=True)
class ExpertsOptions(LoadRunOptions, TargetOptions, RankOptions):
    """load and output."""

    profile: Path | None = option(
        "a load that was saved, by --save or by 'mixtralkit generate --expert-load FILE'",
        metavar="FILE",
        parse=path,
        default=None,
    )
    plot: Path | None = option(
        f"draw the load into a file whose name ends in {', '.join(PLOTS)}; needs matplotlib",
        metavar="FILE",
        parse=path,
        default=None,
    )
    report: str = option(
        "text or json: what the standard output is", metavar="KIND", parse=one_of("text", "json"), default="text"
    )

    def __post_init__(self) -> None:
        self.check_launch()
        if self.timeout < SHORTEST_TIMEOUT:
            raise UsageError(f"--timeout is {self.timeout:g}; at least {SHORTEST_TIMEOUT:g} seconds are needed")
        if (self.model_weights is None) == (self.profile is None):
            raise UsageError(
                "say whose load: either --profile FILE, one that was saved, or -m DIR, to measure a model's"
            )
        if self.hot_experts is not None and self.replica_memory is not None:
            raise UsageError(
                "--hot-experts names the replicas and --replica-memory has them chosen; use one of the two"
            )
        if self.profile is not None:
            self._check_no_run()
        for file, endings in ((self.plot, PLOTS), (self.plan, PLANS), (self.save, None)):
            _check_file(file, endings)

    @property
    def plans(self) -> bool:
        """Whether a placement is to be made."""
        return not (self.plan is None and self.hot_experts is None and self.replica_memory is None)

    def run_options(self) -> GenerateOptions:
        """The run that measures the load, as `generate` would have it; its responses are not for reading."""
        assert self.model_weights is not None
        return GenerateOptions(
            model_weights=self.model_weights,
            tokenizer=self.tokenizer,
            dtype=self.dtype,
            device=self.device,
            quantize=self.quantize,
            timeout=self.timeout,
            max_tokens=self.max_tokens,
            prompt=self.prompt,
            prompt_file=self.prompt_file,
            batch_size=self.batch_size,
            output="json",
        )

    def _check_no_run(self) -> None:
        """Raise `UsageError` when something is said of a run, and a profile is given."""
        for item in (*fields(LoadRunOptions), *fields(RankOptions)):
            if getattr(self, item.name) != item.default:
                flag = "--" + item.name.replace("_", "-")
                raise UsageError(f"{flag} is for a run, and nothing runs with --profile; leave it out")


def _check_file(file: Path | None, endings: tuple[str, ...] | None) -> None:
    """Raise `UsageError` for a name that does not say what to write, or a folder that is not there."""
    if file is None:
        return
    if endings is not None and file.suffix not in endings:
        raise UsageError(f"{file}: the name must end in {' or '.join(endings)}, for what is written")
    if not file.parent.is_dir():
        raise UsageError(f"{file}: there is no folder {file.parent}")
