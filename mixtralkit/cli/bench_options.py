"""What `mixtralkit bench` can be told. Like options.py, without torch."""
# ruff: noqa: RUF009 - option() is dataclasses.field() with a name of ours

from dataclasses import dataclass
from pathlib import Path

from mixtralkit.cli.common_options import (
    DISPATCHES,
    DTYPES,
    MOE_BACKENDS,
    QUANTIZATIONS,
    check_output,
    check_timeout,
    device_option,
    moe_backend_option,
    timeout_option,
)
from mixtralkit.cli.option import option
from mixtralkit.cli.options import RankOptions
from mixtralkit.cli.values import Listed, listed, one_of, path, switch, whole
from mixtralkit.errors import UsageError

PLOTS = (".png", ".svg", ".pdf")
OUTPUTS = (".json", ".csv", ".txt")
UNQUANTIZED = "none"


@dataclass(frozen=True, kw_only=True)
class SubjectOptions:
    """model."""

    model_weights: Path | None = option(
        "the folder of a checkpoint", metavar="DIR", short="-m", parse=path, default=None
    )
    random_weights: bool = option(
        "measure random weights, made in memory", metavar="", parse=switch, switch=True, default=False
    )
    config: str | None = option(
        "the shape of random weights: 791m (the default), 8x7b, 8x22b, or a params.json or config.json",
        metavar="NAME",
        default=None,
    )
    dtype: Listed[str] = option(
        f"one or several of {', '.join(DTYPES)}; auto keeps the checkpoint's, and is bfloat16 for random weights",
        metavar="NAMES",
        parse=listed(one_of(*DTYPES)),
        default=Listed(("auto",)),
    )
    quantize: Listed[str] = option(
        f"one or several of {UNQUANTIZED}, {', '.join(QUANTIZATIONS)}",
        metavar="KINDS",
        parse=listed(one_of(UNQUANTIZED, *QUANTIZATIONS)),
        default=Listed((UNQUANTIZED,)),
    )
    device: str = device_option()
    moe_backend: str = moe_backend_option()


@dataclass(frozen=True, kw_only=True)
class BenchOptions(SubjectOptions, RankOptions):
    """measurements."""

    batch_sizes: Listed[int] = option(
        "decode steps of so many requests, of all ranks together, each with a prompt of 32 tokens",
        metavar="N,N",
        parse=listed(whole(1)),
        default=Listed((1, 8)),
    )
    prefill: Listed[int] = option(
        "prefill of one prompt of so many tokens", metavar="N,N", parse=listed(whole(1)), default=Listed((512,))
    )
    dispatch: Listed[str] = option(
        f"one or several of {', '.join(DISPATCHES)}",
        metavar="NAMES",
        parse=listed(one_of(*DISPATCHES)),
        default=Listed(("auto",)),
    )
    world_sizes: Listed[int] | None = option(
        "measure with 1, 2, ... ranks on this node, one after the other",
        metavar="N,N",
        parse=listed(whole(1)),
        default=None,
    )
    repeats: int = option("of every measurement", metavar="N", parse=whole(1), default=5)
    layers: bool = option("also the time by kind of layer", metavar="", parse=switch, switch=True, default=False)
    round_trips: bool = option(
        "also the time of dispatch and combine alone", metavar="", parse=switch, switch=True, default=False
    )
    report: str = option(
        "text, json or csv: what the standard output is",
        metavar="KIND",
        parse=one_of("text", "json", "csv"),
        default="text",
    )
    output: tuple[Path, ...] = option(
        f"also write the results to a file whose name ends in {', '.join(OUTPUTS)}; repeatable",
        metavar="FILE",
        parse=path,
        repeatable=True,
        default=(),
    )
    plot: Path | None = option(
        f"draw the results into a file whose name ends in {', '.join(PLOTS)}; needs matplotlib",
        metavar="FILE",
        parse=path,
        default=None,
    )
    timeout: float = timeout_option(600.0)

    def __post_init__(self) -> None:
        self.check_launch()
        check_timeout(self.timeout)
        if (self.model_weights is None) != self.random_weights:
            raise UsageError("say what to measure: either -m DIR, a checkpoint, or --random-weights")
        if self.config is not None and not self.random_weights:
            raise UsageError("--config is the shape of --random-weights; a checkpoint has its own")
        if self.world_sizes is not None and self.nproc is not None:
            raise UsageError("--world-sizes and --nproc both start ranks; use one of the two")
        if self.moe_backend != MOE_BACKENDS[0]:
            self._check_backend()
        for file, endings in (*((file, OUTPUTS) for file in self.output), (self.plot, PLOTS)):
            check_output(file, endings)

    def _check_backend(self) -> None:
        asked = {
            "--dispatch": self.dispatch != ("auto",),
            "--layers": self.layers,
            "--round-trips": self.round_trips,
        }
        if given := [flag for flag, was in asked.items() if was]:
            raise UsageError(
                f"{given[0]} is about mixtralkit's own dispatches, and --moe-backend {self.moe_backend} moves rows by "
                "itself; leave one of the two out"
            )
