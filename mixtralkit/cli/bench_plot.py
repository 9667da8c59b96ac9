"""The results of `mixtralkit bench` as a picture: how much of the machine's limit each figure reaches."""

import importlib
from pathlib import Path
from typing import Any

from mixtralkit.cli.bench_table import case_name, kept_as
from mixtralkit.sizes import counted

INCHES_A_BAR = 0.35


def plot(document: dict[str, Any], file: Path) -> None:
    """Draw a bar a figure, with the span of its repeats; matplotlib must be installed."""
    # Neither needed nor annotated otherwise; the figure is made without pyplot, which looks for a display.
    figure_class = importlib.import_module("matplotlib.figure").Figure
    pairs = [(run, figure) for run in document["runs"] for figure in run["figures"]]
    percents = [figure["percent_of_limit"] for _, figure in pairs]
    medians = [percent["median"] for percent in percents]
    below = [percent["median"] - percent["min"] for percent in percents]
    above = [percent["max"] - percent["median"] for percent in percents]
    canvas = figure_class(figsize=(10, 1.5 + INCHES_A_BAR * len(pairs)), layout="constrained")
    axes = canvas.subplots()
    bars = axes.barh([_label(*pair) for pair in pairs], medians, xerr=[below, above], color="#4878a8", ecolor="#303030")
    times = [f"{figure['milliseconds']['median']:.1f} ms" for _, figure in pairs]
    axes.bar_label(bars, times, label_type="center", color="white")
    axes.axvline(100, color="#a03030")
    axes.invert_yaxis()
    axes.set_xlabel("percent of what memory or products allow")
    axes.set_title(f"{document['model']['name']} on {document['runs'][0]['device']}, {document['date']}")
    canvas.savefig(file)


def _label(run: dict[str, Any], figure: dict[str, Any]) -> str:
    return f"{case_name(figure)}; {kept_as(run)}, {counted(run['world_size'], 'rank')}, {figure['dispatch']}"
