"""What `mixtralkit bench serve` can be told. Like options.py, without torch."""
# ruff: noqa: RUF009 - option() is dataclasses.field() with a name of ours

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mixtralkit.bench.load.load_plan import Endpoint, LoadPlan, Span
from mixtralkit.cli.bench_options import PLOTS
from mixtralkit.cli.common_options import check_output
from mixtralkit.cli.option import option
from mixtralkit.cli.values import one_of, path, whole
from mixtralkit.errors import UsageError
from mixtralkit.quantities import above_zero

CONCURRENCY = 8
STANDARD_OUTPUT = Path("-")


def server_url(typed: str) -> str:
    """The address of a server, without /v1."""
    try:
        parts = urlsplit(typed)
        good = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
        good = good and parts.port != 0 and typed.isascii()
    except ValueError:
        good = False
    if not good:
        raise ValueError("an address such as http://127.0.0.1:8000 is needed")
    return typed.rstrip("/").removesuffix("/v1").rstrip("/")


def span(typed: str) -> Span:
    """A number of tokens, or the least and the most with a dash between them."""
    least, dash, most = typed.partition("-")
    try:
        found = Span(int(least), int(most if dash else least))
    except ValueError:
        found = Span(0, 0)
    if not 1 <= found.least <= found.most:
        raise ValueError("a number of tokens is needed, such as 64, or a range of them, such as 32-128")
    return found


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """server."""

    url: str = option(
        "where it is; any server of OpenAI's API", metavar="URL", parse=server_url, default="http://127.0.0.1:8000"
    )
    model: str | None = option("which of its models; else the first that it lists", metavar="NAME", default=None)
    api_key_file: Path | None = option(
        "a file with the API key in the first line that is no comment; else MIXTRALKIT_API_KEY has it if need be",
        metavar="FILE",
        parse=path,
        default=None,
    )
    endpoint: str = option(
        "completions or chat",
        metavar="NAME",
        parse=one_of(*(endpoint.value for endpoint in Endpoint)),
        default=Endpoint.COMPLETIONS.value,
    )
    vocab_size: int | None = option(
        "draw the ids of prompts below N; else they are those that the server's /tokenize makes of random words, and "
        "prompts are words where there is none, or in a chat",
        metavar="N",
        parse=whole(4),
        default=None,
    )


@dataclass(frozen=True, kw_only=True)
class BenchServeOptions(TargetOptions):
    """load."""

    requests: int = option("how many", metavar="N", parse=whole(1), default=32)
    input_tokens: Span = option("of a prompt", metavar="N|N-N", parse=span, default=Span(64, 64))
    output_tokens: Span = option(
        "of an answer; the server is told to go on after the end of the text",
        metavar="N|N-N",
        parse=span,
        default=Span(64, 64),
    )
    shared_prefix: int = option(
        "so many tokens, the same in all prompts, before those of --input-tokens",
        metavar="N",
        parse=whole(0),
        default=0,
    )
    rate: float | None = option(
        "requests a second that arrive at random times (a Poisson process)",
        metavar="R",
        parse=above_zero,
        default=None,
    )
    concurrency: int | None = option(
        f"instead of a rate: so many requests at a time (default: {CONCURRENCY})",
        metavar="N",
        parse=whole(1),
        default=None,
    )
    warm_up: int = option("requests before, which do not count", metavar="N", parse=whole(0), default=1)
    seed: int = option("the same one gives the same requests at the same times", metavar="N", parse=whole(0), default=0)
    deadline: float | None = option(
        "the run ends after so long, and what is not answered then counts as unfinished",
        metavar="SECONDS",
        parse=above_zero,
        default=None,
    )
    timeout: float = option(
        "a request is given up when nothing comes for so long", metavar="SECONDS", parse=above_zero, default=300.0
    )
    json: Path | None = option(
        "also write all figures and requests as JSON; - writes them to the standard output, instead of the table",
        metavar="FILE",
        parse=path,
        default=None,
    )
    plot: Path | None = option(
        f"draw the times into a file whose name ends in {', '.join(PLOTS)}; needs matplotlib",
        metavar="FILE",
        parse=path,
        default=None,
    )

    def __post_init__(self) -> None:
        if self.rate is not None and self.concurrency is not None:
            raise UsageError(
                f"--rate {self.rate:g} lets requests arrive at random, and --concurrency {self.concurrency} one as "
                "another ends; use one of the two"
            )
        if self.vocab_size is not None and self.endpoint == Endpoint.CHAT.value:
            raise UsageError("--vocab-size is for prompts of token ids, and a chat takes text; leave one of them out")
        check_output(self.plot, PLOTS)
        if self.json is not None and self.json != STANDARD_OUTPUT and not self.json.parent.is_dir():
            raise UsageError(f"{self.json}: there is no folder {self.json.parent}")

    def plan(self) -> LoadPlan:
        """The load."""
        return LoadPlan(
            endpoint=Endpoint(self.endpoint),
            requests=self.requests,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            shared_prefix=self.shared_prefix,
            warm_up=self.warm_up,
            rate=self.rate,
            concurrency=None if self.rate is not None else self.concurrency or CONCURRENCY,
            seed=self.seed,
            deadline=self.deadline,
        )
