"""What each verb can be told. A dataclass is a verb's options or, as a base, a section of several verbs' help.

Nothing here imports torch, so that --help and a refusal come at once.
"""
# ruff: noqa: RUF009 - option() is dataclasses.field() with a name of ours

from dataclasses import dataclass, fields
from pathlib import Path

from mixtralkit.cli.common_options import (
    DISPATCHES,
    QUANTIZATIONS,
    batch_size_option,
    check_timeout,
    device_option,
    dtype_option,
    moe_backend_option,
    prompt_file_option,
    prompt_option,
    quantize_option,
    timeout_option,
    tokenizer_option,
)
from mixtralkit.cli.option import option, options_of
from mixtralkit.cli.strategy_options import StrategyOptions
from mixtralkit.cli.values import number, one_of, path, switch, whole
from mixtralkit.engine.request import SamplingParams
from mixtralkit.errors import RequestError, UsageError

NO_FOLDER = Path("\0")  # which nobody can type


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """model."""

    model_weights: Path = option("the folder of the checkpoint", metavar="DIR", short="-m", parse=path)
    tokenizer: Path | None = tokenizer_option()
    dtype: str = dtype_option()
    device: str = device_option()
    quantize: str | None = quantize_option()
    dispatch: str = option(
        f"how tokens travel to experts: {', '.join(DISPATCHES)}; auto goes by ranks and batch",
        metavar="NAME",
        parse=one_of(*DISPATCHES),
        default="auto",
    )
    moe_backend: str = moe_backend_option()
    timeout: float = timeout_option(60.0)

    def __post_init__(self) -> None:
        check_timeout(self.timeout)


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """sampling."""

    max_tokens: int = option("the longest response, in tokens", metavar="N", parse=whole(1), default=128)
    temperature: float = option("0 takes the likeliest token each time", metavar="X", parse=number, default=0.0)
    top_p: float = option("draw from the likeliest tokens that add up to X", metavar="X", parse=number, default=1.0)
    top_k: int = option("draw from the N likeliest tokens; 0 is all", metavar="N", parse=whole(0), default=0)
    seed: int = option("of the draws; prompt i uses N + i", metavar="N", parse=whole(0, 2**62), default=0)
    stop: tuple[str, ...] = option("end a response before this text; repeatable", repeatable=True, default=())

    @property
    def params(self) -> SamplingParams:
        """The options as the engine takes them; raises `UsageError` for a value out of range."""
        try:
            return SamplingParams(
                max_tokens=self.max_tokens,
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                seed=self.seed,
                stop=self.stop,
            )
        except RequestError as error:
            field, _, rest = str(error).partition(" ")
            raise UsageError(f"--{field.replace('_', '-')} {rest}") from error


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """engine."""

    kv_tokens: int | None = option(
        "room for the keys and values of N tokens on each rank; by default a share of the free memory",
        metavar="N",
        parse=whole(2),
        default=None,
    )
    drafts: int = option(
        "guess up to N tokens a step from what was said before, and keep those that the model would have said; 0 is "
        "none",
        metavar="N",
        parse=whole(0, 64),
        default=0,
    )


@dataclass(frozen=True, kw_only=True)
class RankOptions:
    """ranks, when torchrun has not started them."""

    nproc: int | None = option("start N ranks on this node", metavar="N", parse=whole(1), default=None)
    nnodes: int = option("how many nodes take part", metavar="N", parse=whole(1), default=1)
    node_rank: int = option("which of the nodes this is, from 0", metavar="N", parse=whole(0), default=0)
    master_addr: str | None = option("the address of node 0", metavar="HOST", default=None)
    master_port: int | None = option("a free port there", metavar="PORT", parse=whole(1, 65535), default=None)

    def check_launch(self) -> None:
        """Raise `UsageError` when nodes are described and no ranks asked for; the launcher checks the rest."""
        nodes = (self.nnodes, self.node_rank, self.master_addr, self.master_port)
        if self.nproc is None and nodes != (1, 0, None, None):
            raise UsageError(
                "--nnodes, --node-rank, --master-addr and --master-port need --nproc: the ranks on this node"
            )


@dataclass(frozen=True, kw_only=True)
class GenerateOptions(ModelOptions, StrategyOptions, SamplingOptions, EngineOptions, RankOptions):
    """prompts and output."""

    prompt: tuple[str, ...] = prompt_option()
    prompt_file: Path | None = prompt_file_option()
    batch_size: int = batch_size_option()
    output: str = option(
        "text or json: what the standard output is; by default as --report, else text",
        metavar="KIND",
        parse=one_of("text", "json"),
        default="",
    )
    report: str = option(
        "text, json or none; by default as --output. When both are json they are one document",
        metavar="KIND",
        parse=one_of("text", "json", "none"),
        default="",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_launch()
        _ = self.params, self.strategies

    @property
    def output_kind(self) -> str:
        """What the standard output is: "text" or "json"."""
        return self.output or ("json" if self.report == "json" else "text")

    @property
    def report_kind(self) -> str:
        """The report's kind: "text", "json" or "none"."""
        return self.report or self.output or "text"


@dataclass(frozen=True, kw_only=True)
class ChatOptions(ModelOptions, StrategyOptions, SamplingOptions, EngineOptions, RankOptions):
    """conversation."""

    model_weights: Path = option(
        "the folder of the checkpoint", metavar="DIR", short="-m", parse=path, default=NO_FOLDER
    )
    url: str = option(
        "talk with the server at this address, http://HOST:PORT, instead of loading a checkpoint; the key it wants is "
        "in MIXTRALKIT_API_KEY",
        metavar="URL",
        default="",
    )
    system: str = option("what the model is told before the conversation", default="")
    max_tokens: int = option("the longest response, in tokens", metavar="N", parse=whole(1), default=512)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_launch()
        _ = self.params, self.strategies
        if self.url:
            self._check_remote()
        elif self.model_weights is NO_FOLDER:
            raise UsageError("-m is missing: the folder of a checkpoint; or give the --url of a server")

    def _check_remote(self) -> None:
        """Raise `UsageError` for options that a server's own settings decide."""
        if not self.url.startswith(("http://", "https://")):
            raise UsageError(f"--url is {self.url!r}; it begins with http:// or https://")
        asked = {item.name for item in fields(SamplingOptions)} | {"url", "system", "timeout"}
        others = [item for item in options_of(ChatOptions) if item.name not in asked]
        for item in others:
            if getattr(self, item.name) != item.default:
                raise UsageError(f"{item.flag} is for a checkpoint that is loaded here; with --url the server decides")


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """checkpoint."""

    model_weights: Path = option("the folder of the checkpoint", metavar="DIR", short="-m", parse=path, positional=True)


@dataclass(frozen=True, kw_only=True)
class MergeOptions(FolderOptions):
    """Options of merge."""

    output: Path | None = option(
        "an existing folder for the merged weights; by default the checkpoint's",
        metavar="DIR",
        parse=path,
        default=None,
    )


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(FolderOptions):
    """Options of convert."""

    output: Path = option("the folder to write, a new one", metavar="DIR", parse=path)
    quantize: str = option(
        "int8, int4 or fp8: 8.25, 4.5 or 8 bits a weight; fp8 is for GPUs",
        metavar="KIND",
        parse=one_of(*QUANTIZATIONS),
    )


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(FolderOptions):
    """Options of verify."""

    tokenizer: Path | None = tokenizer_option()
    write_manifest: bool = option(
        "write the sha256 of every file, for later runs to compare with",
        metavar="",
        parse=switch,
        switch=True,
        default=False,
    )


@dataclass(frozen=True, kw_only=True)
class InspectOptions(FolderOptions):
    """Options of inspect."""

    world_size: int = option("show what each of N ranks would hold", metavar="N", parse=whole(1), default=1)


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """Options of doctor."""
