"""The results of `mixtralkit bench` for people, and as rows of numbers."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from mixtralkit.cli.tables import table
from mixtralkit.sizes import counted, rate, seconds, size

Document = dict[str, Any]
COLUMNS = (
    "model",
    "weights",
    "device",
    "world_size",
    "threads",
    "dtype",
    "quantize",
    "dispatch",
    "phase",
    "requests",
    "prompt_tokens",
    "milliseconds",
    "milliseconds_min",
    "milliseconds_max",
    "tokens_per_second",
    "limit_milliseconds",
    "bound",
    "percent_of_limit",
)


HEADS = ("ranks", "weights", "dispatch", "what", "ms a step", "from", "to", "tokens/s", "limit, ms", "of limit", "by")


def case_name(figure: Document) -> str:
    """What was measured, in a few words."""
    if figure["phase"] == "prefill":
        return f"prefill of {figure['prompt_tokens']:,}"
    return f"decode, {counted(figure['requests'], 'request')}"


def csv_text(document: Document) -> str:
    """A line a figure, with the facts of its run; the first line names the columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for run in document["runs"]:
        for figure in run["figures"]:
            writer.writerow({**run, **figure, **_spreads(figure), **_model(document)})
    return text.getvalue()


def report_text(document: Document) -> str:
    """Machine, model and figures in tables."""
    lines = [_model_line(document["model"])]
    for run in document["runs"]:
        lines += _run_lines(run)
    cells = [_cells(run, figure) for run in document["runs"] for figure in run["figures"]]
    lines += ["", *table([HEADS, *cells])]
    for run in document["runs"]:
        lines += [*_layer_lines(run), *_round_trip_lines(run)]
    return "\n".join(lines)


def _cells(run: Document, figure: Document) -> Sequence[str]:
    spread = figure["milliseconds"]
    return (
        str(run["world_size"]),
        kept_as(run),
        figure["dispatch"],
        case_name(figure),
        *(f"{spread[name]:.2f}" for name in ("median", "min", "max")),
        rate(figure["tokens_per_second"]),
        f"{figure['limit_milliseconds']:.2f}",
        f"{figure['percent_of_limit']['median']:.0f} %",
        figure["bound"],
    )


def _model_line(model: Document) -> str:
    every, active = (f"{model[name] / 1e6:,.0f} M" for name in ("num_params", "num_active_params"))
    return f"model   {model['name']}, {model['weights']} weights, {every} parameters, {active} of them for a token"


def _run_lines(run: Document) -> list[str]:
    rates = {name: _span(spread) for name, spread in run["rates"].items()}
    ranks = f"{counted(run['world_size'], 'rank')} of {counted(run['threads'], 'thread')}"
    load = max(rank["load_seconds"] for rank in run["ranks"])
    first = _most(run, "first_token_seconds")
    peak = _most(run, "peak_private_bytes")
    products = ", ".join(f"{rates[name]} in {name}" for name in ("float32", "bfloat16", "int8"))
    token = "?" if first is None else seconds(first)
    return [
        f"run     {ranks}, {kept_as(run)}, on {run['device']}, torch {run['torch']}",
        f"        reads {rates['read']} GB/s; multiplies, in GFLOP/s, {products}",
        f"        loaded in {seconds(load)}; first token {token} after the start, importing torch left out",
        f"        peak private memory of a rank {'?' if peak is None else size(int(peak))}",
    ]


def _most(run: Document, name: str) -> float | None:
    """The largest value of all ranks, None where a system does not tell."""
    return max((rank[name] for rank in run["ranks"] if rank[name] is not None), default=None)


def _span(spread: Document) -> str:
    return f"{spread['median'] / 1e9:,.0f} ({spread['min'] / 1e9:,.0f} to {spread['max'] / 1e9:,.0f})"


def _layer_lines(run: Document) -> list[str]:
    lines = []
    for times in run["layers"]:
        total = sum(times["milliseconds"].values())
        rows = [(kind, f"{each:.2f}", f"{each / total:.0%}") for kind, each in times["milliseconds"].items()]
        head = f"{case_name(times)}, {counted(run['world_size'], 'rank')}, {kept_as(run)}, {times['dispatch']}"
        lines += ["", f"{head}: where the time goes", *table([("layer", "ms a step", "share"), *rows])]
    return lines


def _round_trip_lines(run: Document) -> list[str]:
    trips = run["round_trips"]
    if not trips:
        return []
    rows = [
        (
            trip["dispatch"],
            f"{trip['tokens_per_rank']:,}",
            *(f"{trip['microseconds'][name]:.1f}" for name in ("median", "min", "max")),
            f"{trip['bytes_sent']:,}",
        )
        for trip in trips
    ]
    heads = ("dispatch", "tokens a rank", "us a round trip", "from", "to", "bytes sent")
    return ["", f"dispatch and combine, {counted(run['world_size'], 'rank')}", *table([heads, *rows])]


def _spreads(figure: Document) -> Document:
    spread = figure["milliseconds"]
    return {
        "milliseconds": spread["median"],
        "milliseconds_min": spread["min"],
        "milliseconds_max": spread["max"],
        "percent_of_limit": figure["percent_of_limit"]["median"],
    }


def _model(document: Document) -> Document:
    return {"model": document["model"]["name"], "weights": document["model"]["weights"]}


def kept_as(run: Document) -> str:
    """What the weights are kept as."""
    return str(run["dtype"] if run["quantize"] == "none" else run["quantize"])
