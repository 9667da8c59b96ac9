"""What each verb can be told. A dataclass is a verb's options or, as a base, a section of several verbs' help.

Nothing here imports torch, so that --help and a refusal come at once.
"""
# ruff: noqa: RUF009 - option() is dataclasses.field() with a name of ours

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixtralkit.cli.option import option
from mixtralkit.cli.strategy_options import StrategyOptions
from mixtralkit.cli.values import number, one_of, path, switch, whole
from mixtralkit.engine.request import SamplingParams
from mixtralkit.errors import RequestError, UsageError

DTYPES = ("auto", "float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda")
SHORTEST_TIMEOUT = 5.0  # seconds: ranks that do nothing speak every second or so
QUANTIZATIONS = ("int8", "int4")
DISPATCHES = ("auto", "local", "collective", "all_gather", "peer")


def _tokenizer_option() -> Any:
    help_text = "the tokenizer.model; by default the one in the checkpoint's folder"
    return option(help_text, metavar="FILE", short="-t", parse=path, default=None)


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """model."""

    model_weights: Path = option("the folder of the checkpoint", metavar="DIR", short="-m", parse=path)
    tokenizer: Path | None = _tokenizer_option()
    dtype: str = option(
        f"{', '.join(DTYPES)}; auto keeps the checkpoint's", metavar="NAME", parse=one_of(*DTYPES), default="auto"
    )
    device: str = option(
        f"{', '.join(DEVICES)}; auto takes a GPU a rank where there is one",
        metavar="NAME",
        parse=one_of(*DEVICES),
        default="auto",
    )
    quantize: str | None = option(
        f"{' or '.join(QUANTIZATIONS)}: quantize the weights while they are loaded, for the CPU; 'convert' does it for "
        "good",
        metavar="KIND",
        parse=one_of(*QUANTIZATIONS),
        default=None,
    )
    dispatch: str = option(
        f"how tokens travel to experts: {', '.join(DISPATCHES)}; auto goes by ranks and batch",
        metavar="NAME",
        parse=one_of(*DISPATCHES),
        default="auto",
    )
    timeout: float = option(
        "how long ranks wait for each other before they give up", metavar="SECONDS", parse=number, default=60.0
    )

    def __post_init__(self) -> None:
        if self.timeout < SHORTEST_TIMEOUT:
            raise UsageError(f"--timeout is {self.timeout:g}; at least {SHORTEST_TIMEOUT:g} seconds are needed")


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
class GenerateOptions(ModelOptions, StrategyOptions, SamplingOptions, RankOptions):
    """prompts and output."""

    prompt: tuple[str, ...] = option(
        "a prompt, with or without --prompt; repeatable; - reads one from the standard input; without any, a few "
        "built-in ones are answered",
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
    batch_size: int = option("requests that a rank works on at a time", metavar="N", parse=whole(1), default=8)
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
class ChatOptions(ModelOptions, StrategyOptions, SamplingOptions, RankOptions):
    """conversation."""

    system: str = option("what the model is told before the conversation", default="")
    max_tokens: int = option("the longest response, in tokens", metavar="N", parse=whole(1), default=512)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_launch()
        _ = self.params, self.strategies


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
        f"{' or '.join(QUANTIZATIONS)}: 8.25 or 4.5 bits a weight", metavar="KIND", parse=one_of(*QUANTIZATIONS)
    )


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(FolderOptions):
    """Options of verify."""

    tokenizer: Path | None = _tokenizer_option()
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
