"""The document of `mixtralkit bench serve` as tables."""

from collections.abc import Iterator
from typing import Any

from mixtralkit.cli.tables import table
from mixtralkit.sizes import counted, rate, seconds

TIMES = (
    ("ttft", "time to first token"),
    ("tpot", "time per output token"),
    ("itl", "between two pieces of text"),
    ("latency", "end to end"),
)
RATES = ("requests_per_second", "output_tokens_per_second", "total_tokens_per_second")
COLUMNS = ("mean", "median", "p90", "p99")


def load_table(document: dict[str, Any]) -> str:
    """The load, the rates, the spreads of the times, what failed, and what makes the figures doubtful."""
    figures = document["figures"]
    spreads = [
        (name, *(f"{figures[key][column] * 1e3:,.1f}" for column in COLUMNS))
        for key, name in TIMES
        if figures[key] is not None
    ]
    lines = [*_head(document), *_rates(figures)]
    if spreads:
        lines += ["", *table([("milliseconds", *COLUMNS), *spreads])]
    return "\n".join([*lines, *_errors(document), *_doubts(figures)])


def _head(document: dict[str, Any]) -> list[str]:
    server, load = document["server"], document["load"]
    arrivals = f"{load['concurrency']} at a time" if load["rate"] is None else f"{load['rate']:g} a second at random"
    prefix = f" after {load['shared_prefix']:,} shared ones" if load["shared_prefix"] else ""
    lengths = f"{_span(load['input_tokens'])}{prefix} in, {_span(load['output_tokens'])} out"
    return [
        f"server   {server['model']} at {server['url']}, {load['endpoint']}",
        f"load     {counted(load['requests'], 'request')}, {arrivals}; {load['prompts']}, {lengths}",
    ]


def _span(span: dict[str, int]) -> str:
    return f"{span['least']:,}" if span["least"] == span["most"] else f"{span['least']:,}-{span['most']:,}"


def _rates(figures: dict[str, Any]) -> list[str]:
    failed = sum(figures["failed"].values())
    parts = [f"{figures['answered']:,} answered", f"{failed:,} failed"]
    if figures["not_sent"]:
        parts.append(f"{figures['not_sent']:,} not sent")
    requests, output, total = (figures[name] for name in RATES)
    tokens = f"{figures['prompt_tokens']:,} tokens in, {figures['output_tokens']:,} out"
    return [
        f"result   {', '.join(parts)}, in {seconds(figures['seconds'])}; {tokens}",
        f"         {requests:.2f} requests/s, {rate(output)} output tokens/s, {rate(total)} tokens/s in all",
    ]


def _errors(document: dict[str, Any]) -> Iterator[str]:
    if document["first_errors"]:
        counts = ", ".join(f"{count:,} x {kind}" for kind, count in document["figures"]["failed"].items())
        yield f"\nfailed: {counts}; the first:"
    for error in document["first_errors"]:
        yield f"  {error['kind']}: {error['message']}"


def _doubts(figures: dict[str, Any]) -> Iterator[str]:
    if figures["short"]:
        yield (
            f"\n{counted(figures['short'], 'answer')} had fewer tokens than were asked for: the server does not honour "
            "ignore_eos, or ran out of context"
        )
    if figures["uncounted"]:
        yield (
            f"\nthe server did not count the tokens of {counted(figures['uncounted'], 'answer')}: taken to be one for "
            "each piece of text, and none in the prompts"
        )
