"""Measures on this machine's GPU, and writes what came out.

    python -m benchmarks.gpu [--quick] [--only TITLE] [--results FOLDER]

Each section is a process of its own, and one that fails leaves the others. tools/gpu_check.sh runs the kernels' tests
before.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.gpu.section import Section, Told, page, run
from mixtralkit.bench.shapes import shape_of

RESULTS = Path(__file__).parents[1] / "results"
ROOM = 1.1  # of the weights' bytes: activations, a small cache, the allocator
SEATS_ROOM = 1.25  # the same where requests shall fill the GPU
BITS = {"none": 16, "fp8": 8, "int8": 8.25, "int4": 4.5}


def _steps(shape: str, quantize: str, *, quick: bool = False) -> Section:
    nbytes = shape_of(shape).num_params * BITS[quantize] / 8
    title = f"Steps of {shape}, {'bfloat16' if quantize == 'none' else quantize}"
    return Section(title, "benchmarks.gpu.model_steps", (shape, quantize), limit=150, memory=nbytes * ROOM, quick=quick)


def _throughput(shape: str, quantize: str) -> Section:
    nbytes = shape_of(shape).num_params * BITS[quantize] / 8
    title = f"Throughput of {shape}, {'bfloat16' if quantize == 'none' else quantize}"
    return Section(title, "benchmarks.gpu.throughput", (shape, quantize), limit=180, memory=nbytes * SEATS_ROOM)


SECTIONS = (
    Section("A mixture of experts", "benchmarks.gpu.moe_layer", quick=True),
    Section("Experts over many rows", "benchmarks.gpu.grouped_experts", quick=True),
    _steps("791m", "none", quick=True),
    _steps("8x7b", "none"),
    _steps("8x7b", "fp8"),
    _throughput("8x7b", "fp8"),
    Section("Beside transformers", "benchmarks.gpu.transformers_steps", limit=180, memory=60e9),
    _steps("8x7b", "int8"),
    Section("Loading", "benchmarks.gpu.loading", limit=150),
    _steps("8x7b", "int4"),
    Section("Beside FastMoE", "benchmarks.gpu.fastmoe_layer"),
)  # the most wanted first: what the time does not reach is left out


def sections(memory: float, *, quick: bool, only: Sequence[str] = ()) -> list[Section]:
    """What is measured on a GPU with so many bytes; `only` has parts of titles."""
    fitting = [section for section in SECTIONS if section.memory < memory and (section.quick or not quick)]
    wanted = [section for section in fitting if any(part.lower() in section.title.lower() for part in only)]
    return wanted if only else fitting


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="what takes a minute or two only")
    parser.add_argument("--only", action="append", default=[], metavar="TITLE", help="sections with this in the title")
    parser.add_argument("--seconds", type=float, default=3600.0, help="begin no section later, and end those that run")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the results' folder")
    return parser.parse_args(words)


def write(folder: Path, name: str, command: str, parts: Sequence[tuple[Section, Told]]) -> Path:
    """Write `<GPU>-<date>.md` and `.json`; returns the former."""
    date = time.strftime("%Y-%m-%d")
    file = folder / f"{name.lower().replace(' ', '-')}-{date}.md"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(page(name, date, command, parts), encoding="utf-8")
    documents = {section.title: told.document for section, told in parts}
    file.with_suffix(".json").write_text(json.dumps(documents, indent=1), encoding="utf-8")
    return file


def main(words: Sequence[str] | None = None) -> int:
    """Run; returns the exit status, 1 when a section failed."""
    words = sys.argv[1:] if words is None else words
    options, command = arguments(words), shlex.join(["python", "-m", "benchmarks.gpu", *words])
    if not torch.cuda.is_available():
        sys.exit("no GPU: torch.cuda.is_available() is False")
    name, memory = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
    parts: list[tuple[Section, Told]] = []
    end = time.perf_counter() + options.seconds
    for section in sections(memory, quick=options.quick, only=options.only):
        print(f"{section.title} ...", flush=True)
        started = time.perf_counter()
        parts.append((section, run(replace(section, limit=min(section.limit, end - started)))))
        print(f"{parts[-1][1].markdown}({time.perf_counter() - started:.0f} s)\n", flush=True)
        file = write(options.results, name, command, parts)  # each time: what was measured stays, whatever comes
    if not parts:
        sys.exit(f"nothing to measure: the sections are {', '.join(section.title for section in SECTIONS)}")
    print(f"written to {file} and .json")
    return int(any(told.failed for _, told in parts))


if __name__ == "__main__":
    sys.exit(main())
