"""What `mixtralkit experts` can be told. Like options.py, without torch."""
# ruff: noqa: RUF009 - option() is dataclasses.field() with a name of ours

from dataclasses import dataclass
from pathlib import Path

from mixtralkit.cli.bench_options import PLOTS
from mixtralkit.cli.common_options import (
    batch_size_option,
    check_output,
    check_timeout,
    device_option,
    dtype_option,
    prompt_file_option,
    prompt_option,
    quantize_option,
    timeout_option,
    tokenizer_option,
)
from mixtralkit.cli.option import option, options_of
from mixtralkit.cli.options import GenerateOptions, RankOptions
from mixtralkit.cli.strategy_values import hot_experts
from mixtralkit.cli.values import one_of, path, whole
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
    prompt: tuple[str, ...] = prompt_option()
    prompt_file: Path | None = prompt_file_option()
    max_tokens: int = option(
        "the longest response, in tokens; 1 measures the prompts alone", metavar="N", parse=whole(1), default=16
    )
    batch_size: int = batch_size_option()
    tokenizer: Path | None = tokenizer_option()
    dtype: str = dtype_option()
    quantize: str | None = quantize_option()
    device: str = device_option()
    timeout: float = timeout_option(60.0)
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
        check_timeout(self.timeout)
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
        for file, endings in ((self.plot, PLOTS), (self.plan, PLANS), (self.save, ())):
            check_output(file, endings)

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
        for item in (*options_of(LoadRunOptions), *options_of(RankOptions)):
            if getattr(self, item.name) != item.default:
                raise UsageError(f"{item.flag} is for a run, and nothing runs with --profile; leave it out")
