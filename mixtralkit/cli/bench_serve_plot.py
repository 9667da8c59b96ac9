"""The document of `mixtralkit bench serve` as a picture: how its times are spread, and when what was under way."""

import importlib
from itertools import accumulate
from pathlib import Path
from typing import Any

from mixtralkit.errors import UsageError
from mixtralkit.sizes import rate

PANELS = {"first": "time to first token", "gaps": "between two pieces of text", "latency": "end to end"}
WAITING, WRITING, FAILED = "#c8c8c8", "#4878a8", "#a03030"


def plot(document: dict[str, Any], file: Path) -> None:
    """Draw the shares of requests below each time, and a line a request over time; matplotlib must be installed.

    Raises `UsageError` when the file cannot be written.
    """
    # Neither needed nor annotated otherwise; the figure is made without pyplot, which looks for a display.
    figure_class = importlib.import_module("matplotlib.figure").Figure
    canvas = figure_class(figsize=(12, 8), layout="constrained")
    above, below = canvas.subfigures(2, 1, height_ratios=(2, 3))
    answers = [request for request in document["requests"] if request["answered"]]
    for axes, (key, name) in zip(above.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        times = (answer[key] if key == "gaps" else [answer[key]] for answer in answers)
        _draw_shares(axes, name, sorted(time * 1e3 for each in times for time in each))
    _draw_timeline(below.subplots(), document["requests"])
    figures = document["figures"]
    canvas.suptitle(
        f"{document['server']['model']}, {document['date']}: {figures['requests_per_second']:.2f} requests/s, "
        f"{rate(figures['output_tokens_per_second'])} output tokens/s"
    )
    try:
        canvas.savefig(file)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from error


def _draw_shares(axes: Any, name: str, ascending: list[float]) -> None:
    """The share of the values that are no greater than each."""
    shares = list(accumulate(100 / len(ascending) for _ in ascending))
    axes.step(ascending, shares, where="post", color=WRITING)
    for percent in (50, 90, 99):
        axes.axhline(percent, color=WAITING, linewidth=0.8, zorder=0)
    axes.set(title=name, xlabel="milliseconds", ylabel="percent at most", ylim=(0, 101))
    axes.set_xlim(left=0)


def _draw_timeline(axes: Any, requests: list[dict[str, Any]]) -> None:
    """Each request from its arrival to its end, light until its first token."""
    answered = [(place, each) for place, each in enumerate(requests) if each["answered"]]
    failed = [(place, each) for place, each in enumerate(requests) if not each["answered"]]
    _draw_lines(
        axes, [(place, each["started"], each["first"]) for place, each in answered], WAITING, "until the first token"
    )
    spans = [(place, each["started"] + each["first"], each["latency"] - each["first"]) for place, each in answered]
    _draw_lines(axes, spans, WRITING, "answer")
    _draw_lines(axes, [(place, each["started"], each["latency"]) for place, each in failed], FAILED, "failed")
    axes.invert_yaxis()
    axes.set(xlabel="seconds", ylabel="request")
    axes.legend(loc="lower left")


def _draw_lines(axes: Any, spans: list[tuple[int, float, float]], colour: str, label: str) -> None:
    if spans:
        places, starts, lengths = zip(*spans, strict=True)
        ends = [start + length for start, length in zip(starts, lengths, strict=True)]
        axes.hlines(places, starts, ends, colors=colour, label=label, linewidth=2)
