"""`mixtralkit bench` of several world sizes, dtypes or quantizations: each is measured in processes of its own."""

import itertools
import json
import subprocess
import sys
from typing import Any

from mixtralkit.cli.arguments import words_of
from mixtralkit.cli.bench_options import BenchOptions
from mixtralkit.cli.bench_outputs import write_all
from mixtralkit.cli.terminal import aside
from mixtralkit.env import launch_env
from mixtralkit.errors import MixtralKitError, UsageError

# What each variant is told in its own way, and what is done with all of them together.
OWN = ("world_sizes", "dtype", "quantize", "report", "output", "plot")


class VariantFailed(MixtralKitError):
    """One of the measurements failed; its own message has been shown."""


def variants_of(options: BenchOptions) -> list[list[str]]:
    """The words that make each variant; none where `options` ask for a single one, on the ranks that there are.

    Raises `UsageError` when a launcher has started the ranks: theirs is the only variant.
    """
    if options.world_sizes is None and len(options.dtype) * len(options.quantize) == 1:
        return []
    if launch_env().under_torchrun or launch_env().world_size > 1:
        raise UsageError(
            "several world sizes, dtypes or quantizations are measured in processes of their own, but a launcher has "
            "started this one's ranks; start it without torchrun, or with one --dtype and --quantize"
        )
    return [
        [*([] if size in (None, 1) else [f"--nproc={size}"]), f"--dtype={dtype}", f"--quantize={kind}"]
        for size, dtype, kind in itertools.product(options.world_sizes or (None,), options.dtype, options.quantize)
    ]


def bench_variants(options: BenchOptions, variants: list[list[str]]) -> int:
    """Measure all of them, then show them together; returns the exit status."""
    shared = words_of(options, without=OWN)
    documents = []
    for words in variants:
        aside(" ".join(words).replace("--", "").replace("=", " "))
        documents.append(_run([*shared, *words]))
    write_all(options, {**documents[0], "runs": [run for each in documents for run in each["runs"]]})
    return 0


def _run(words: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "mixtralkit.cli.main", "bench", *words, "--report=json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise VariantFailed(f"'mixtralkit bench {' '.join(words)}' ended with status {done.returncode}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document
