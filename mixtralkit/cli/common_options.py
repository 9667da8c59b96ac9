"""Options that several verbs have, with the same words: each function makes a field of an options dataclass."""

from pathlib import Path
from typing import Any

from mixtralkit.cli.option import option
from mixtralkit.cli.values import number, one_of, path, whole
from mixtralkit.errors import UsageError

DTYPES = ("auto", "float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda")
QUANTIZATIONS = ("int8", "int4", "fp8")
DISPATCHES = ("auto", "local", "collective", "all_gather", "hierarchical", "peer", "nccl")
MOE_BACKENDS = ("mixtralkit", "fastmoe")
SHORTEST_TIMEOUT = 5.0  # seconds: ranks that do nothing speak every second or so


def prompt_option() -> Any:
    """Prompts on the command line: `tuple[str, ...]`."""
    return option(
        "a prompt, with or without --prompt; repeatable; - reads one from the standard input; without any, a few "
        "built-in ones are answered",
        repeatable=True,
        positional=True,
        default=(),
    )


def prompt_file_option() -> Any:
    """A file of prompts: `Path | None`."""
    return option(
        "a prompt a line; with the ending .jsonl a JSON string a line, or an object with a 'prompt'; - is the standard "
        "input",
        metavar="FILE",
        parse=path,
        default=None,
    )


def batch_size_option() -> Any:
    """Of every rank: `int`."""
    return option("requests that a rank works on at a time", metavar="N", parse=whole(1), default=8)


def tokenizer_option() -> Any:
    """The tokenizer's file: `Path | None`."""
    help_text = "the tokenizer.model; by default the one in the checkpoint's folder"
    return option(help_text, metavar="FILE", short="-t", parse=path, default=None)


def dtype_option() -> Any:
    """One of `DTYPES`."""
    return option(
        f"{', '.join(DTYPES)}; auto keeps the checkpoint's", metavar="NAME", parse=one_of(*DTYPES), default="auto"
    )


def device_option() -> Any:
    """One of `DEVICES`."""
    return option(
        f"{', '.join(DEVICES)}; auto takes a GPU a rank where there is one",
        metavar="NAME",
        parse=one_of(*DEVICES),
        default="auto",
    )


def quantize_option() -> Any:
    """One of `QUANTIZATIONS` or None."""
    return option(
        f"{', '.join(QUANTIZATIONS)}: quantize the weights while they are loaded (fp8 is for GPUs); 'convert' does it "
        "for good",
        metavar="KIND",
        parse=one_of(*QUANTIZATIONS),
        default=None,
    )


def moe_backend_option() -> Any:
    """One of `MOE_BACKENDS`."""
    return option(
        f"{' or '.join(MOE_BACKENDS)}: whose layers compute the experts; fastmoe is for comparisons, where FastMoE is "
        "installed",
        metavar="NAME",
        parse=one_of(*MOE_BACKENDS),
        default=MOE_BACKENDS[0],
    )


def timeout_option(default: float) -> Any:
    """Seconds, to be looked at by `check_timeout`."""
    help_text = "how long ranks wait for each other before they give up"
    return option(help_text, metavar="SECONDS", parse=number, default=default)


def check_timeout(seconds: float) -> None:
    """Raise `UsageError` for one in which ranks cannot be told from dead ones."""
    if seconds < SHORTEST_TIMEOUT:
        raise UsageError(f"--timeout is {seconds:g}; at least {SHORTEST_TIMEOUT:g} seconds are needed")


def check_output(file: Path | None, endings: tuple[str, ...]) -> None:
    """Raise `UsageError` for a name with none of the `endings`, if there are any, or a folder that is not there."""
    if file is None:
        return
    if endings and file.suffix not in endings:
        raise UsageError(f"{file}: the name must end in {' or '.join(endings)}, which says what is written")
    if not file.parent.is_dir():
        raise UsageError(f"{file}: there is no folder {file.parent}")
