"""Decode steps and prefill of a model: `python -m benchmarks.gpu.model_steps SHAPE QUANTIZE`."""

import contextlib
import io
import json
import sys

from benchmarks.gpu.section import tell
from mixtralkit.cli.bench import bench
from mixtralkit.cli.bench_options import BenchOptions
from mixtralkit.cli.bench_table import report_text
from mixtralkit.cli.values import Listed


def main(shape: str, quantize: str) -> None:
    """Measure as `mixtralkit bench` does."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        bench(
            BenchOptions(
                random_weights=True,
                config=shape,
                quantize=Listed((quantize,)),
                device="cuda",
                batch_sizes=Listed((1, 8, 32, 128)),
                prefill=Listed((512, 4096)),
                layers=True,
                report="json",
            )
        )
    document = json.loads(output.getvalue())
    tell(f"```text\n{report_text(document).rstrip()}\n```\n", document)


if __name__ == "__main__":
    main(*sys.argv[1:])
