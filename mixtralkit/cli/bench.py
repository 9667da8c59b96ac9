"""`mixtralkit bench`: how fast a model runs here, beside how fast this machine would let it."""

import time

from mixtralkit.cli.bench_options import BenchOptions


def bench(options: BenchOptions) -> int:
    """Run the verb; returns the exit status."""
    started = time.perf_counter()
    import torch  # noqa: F401 - first of all: what it takes is no part of the time to the first token

    torch_seconds = time.perf_counter() - started
    from mixtralkit.cli.bench_here import bench_here
    from mixtralkit.cli.bench_outputs import check_plot
    from mixtralkit.cli.bench_variants import bench_variants, variants_of

    check_plot(options.plot)
    if variants := variants_of(options):
        return bench_variants(options, variants)
    return bench_here(options, torch_seconds)
