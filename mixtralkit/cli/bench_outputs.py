"""Where the results of `mixtralkit bench` go: the standard output, files, and a plot."""

import importlib.util
import json
import time
from pathlib import Path
from typing import Any

from mixtralkit import __version__
from mixtralkit.cli.bench_options import BenchOptions
from mixtralkit.cli.bench_table import csv_text, report_text
from mixtralkit.cli.terminal import say
from mixtralkit.errors import UsageError


def document(model: dict[str, Any], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The results of `runs` of a model, as JSON."""
    return {"mixtralkit": __version__, "date": time.strftime("%Y-%m-%d %H:%M"), "model": model, "runs": runs}


def check_plot(plot: Path | None) -> None:
    """Raise `UsageError` when a plot is asked for that cannot be drawn: before all the measuring."""
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib, which is not installed; pip install 'mixtralkit[bench]' brings it")


def write_all(options: BenchOptions, results: dict[str, Any]) -> None:
    """Write what `options` ask for. Raises `UsageError` when a file cannot be written."""
    say(_text(results, options.report).rstrip("\n"))
    for file in options.output:
        try:
            file.write_text(_text(results, file.suffix.removeprefix(".")).rstrip("\n") + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{file} cannot be written: {error.strerror}") from error
    if options.plot is not None:
        from mixtralkit.cli.bench_plot import plot

        plot(results, options.plot)


def _text(results: dict[str, Any], kind: str) -> str:
    if kind == "json":
        return json.dumps(results)
    return csv_text(results) if kind == "csv" else report_text(results)
