"""Times decode steps, prefill and the mixture of experts on this machine's GPU, and writes what came out.

    python -m benchmarks.gpu [--quick] [--results FOLDER]

Random weights, in the shapes that fit into the GPU's memory; each in a process of its own. tools/gpu_check.sh runs the
kernels' tests before.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.moe_layer import moe_layer_table
from mixtralkit.bench.shapes import shape_of
from mixtralkit.cli.bench import bench
from mixtralkit.cli.bench_options import BenchOptions
from mixtralkit.cli.bench_table import report_text
from mixtralkit.cli.values import Listed

RESULTS = Path(__file__).parents[1] / "results"
ROOM = 1.1  # of the weights' bytes: activations, a small cache, the allocator


@dataclass(frozen=True)
class Variant:
    """A shape, and how its matrices are kept: "none" is bfloat16."""

    shape: str
    quantize: str
    bits: float

    @property
    def nbytes(self) -> float:
        """What its weights take."""
        return shape_of(self.shape).num_params * self.bits / 8


SMALL = Variant("791m", "none", 16)
LARGE = (Variant("8x7b", "none", 16), Variant("8x7b", "int8", 8.25), Variant("8x7b", "int4", 4.5))


def variants(memory: float, *, quick: bool) -> list[Variant]:
    """What is measured on a GPU with so many bytes."""
    return [SMALL, *(variant for variant in LARGE if not quick and variant.nbytes * ROOM < memory)]


def run_here(variant: Variant) -> None:
    """Measure one in this process; the JSON document of `mixtralkit bench` goes to the standard output."""
    bench(
        BenchOptions(
            random_weights=True,
            config=variant.shape,
            quantize=Listed((variant.quantize,)),
            device="cuda",
            batch_sizes=Listed((1, 8, 32, 128)),
            prefill=Listed((512, 4096)),
            layers=True,
            report="json",
        )
    )


def run_apart(variant: Variant) -> dict[str, Any]:
    """Measure one in a process of its own. Raises `CalledProcessError` when that fails."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--one", variant.shape, variant.quantize]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the smallest shape only")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the results' folder")
    parser.add_argument("--one", nargs=2, metavar=("SHAPE", "QUANTIZE"), help=argparse.SUPPRESS)
    return parser.parse_args(words)


def page(name: str, date: str, documents: Sequence[dict[str, Any]], layer: str) -> str:
    """All figures, in Markdown."""
    parts = [f"# {name}, {date}\n", "`tools/gpu_check.sh`. Random weights.\n", layer]
    return "\n".join(parts + [f"```text\n{report_text(document).rstrip()}\n```\n" for document in documents])


def main(words: Sequence[str] | None = None) -> int:
    """Run; returns the exit status."""
    options = arguments(words)
    if options.one:
        (variant,) = (each for each in (SMALL, *LARGE) if [each.shape, each.quantize] == options.one)
        run_here(variant)
        return 0
    if not torch.cuda.is_available():
        sys.exit("no GPU: torch.cuda.is_available() is False")
    name, date = torch.cuda.get_device_name(), time.strftime("%Y-%m-%d")
    memory = torch.cuda.get_device_properties(0).total_memory
    layer = moe_layer_table(torch.device("cuda"))
    torch.cuda.empty_cache()
    documents = []
    for variant in variants(memory, quick=options.quick):
        print(f"{variant.shape}, quantize {variant.quantize}", flush=True)
        documents.append(run_apart(variant))
    file = options.results / f"{name.lower().replace(' ', '-')}-{date}"
    options.results.mkdir(parents=True, exist_ok=True)
    text = page(name, date, documents, layer)
    file.with_suffix(".md").write_text(text, encoding="utf-8")
    file.with_suffix(".json").write_text(
        json.dumps({"layer": layer, "documents": documents}, indent=1), encoding="utf-8"
    )
    print(text)
    print(f"written to {file}.md and .json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
