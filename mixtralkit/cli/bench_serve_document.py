"""What `mixtralkit bench serve` found, as JSON, and where it is written: a table, a file, a plot."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mixtralkit import __version__
from mixtralkit.bench.load.answer_stream import Answer
from mixtralkit.bench.load.load_figures import LoadFigures
from mixtralkit.bench.load.load_test import LoadResult
from mixtralkit.cli.bench_serve_options import STANDARD_OUTPUT, BenchServeOptions
from mixtralkit.cli.bench_serve_table import load_table
from mixtralkit.cli.terminal import say
from mixtralkit.errors import UsageError

FIRST_ERRORS = 5


def load_document(options: BenchServeOptions, found: LoadResult, figures: LoadFigures) -> dict[str, Any]:
    """Everything: what was asked of whom, the figures, the first errors, and each request's times in seconds."""
    failures = [result for result in found.results if not isinstance(result, Answer)]
    return {
        "mixtralkit": __version__,
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "server": {"url": options.url, "model": found.model},
        "load": {**asdict(options.plan()), "endpoint": options.endpoint, "prompts": found.prompts},
        "figures": {**figures.document(), "not_sent": options.requests - len(found.results)},
        "first_errors": [{"kind": each.kind, "message": each.message} for each in failures[:FIRST_ERRORS]],
        "requests": [_request(result) for result in found.results],
    }


def _request(result: Any) -> dict[str, Any]:
    return {"answered": isinstance(result, Answer), **asdict(result)}


def write_load(options: BenchServeOptions, document: dict[str, Any]) -> None:
    """Write what `options` ask for. Raises `UsageError` when a file cannot be written."""
    if options.json == STANDARD_OUTPUT:
        say(json.dumps(document))
    else:
        say(load_table(document))
    if options.json not in (None, STANDARD_OUTPUT):
        _write(options.json, json.dumps(document) + "\n")
    if options.plot is not None:
        from mixtralkit.cli.bench_serve_plot import plot

        plot(document, options.plot)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from error
