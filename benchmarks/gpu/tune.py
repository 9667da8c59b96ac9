"""Tries other tiles than those of mixtralkit/ops/triton/tiles.json on this machine's GPU, for Mixtral 8x7B.

    python -m benchmarks.gpu.tune [--kernel NAME] [--seconds S] [--write]

Prints milliseconds, and what part that is of the time that no way of computing can do without: by reading memory or by
dense products, both as fast as torch does them here. With --write the best go into the file, for this architecture.
Entries share the time; run it again, with --kernel, to go on from what was written. Nothing else calls this.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import triton

from benchmarks.gpu.launches import Call, compiling, recorders, run_recorded
from benchmarks.gpu.tile_search import MEMORY, Numbers, Trial, best, candidates, relative, rewritten
from benchmarks.gpu.tuned_calls import MIXTRAL, Sizes, calls
from mixtralkit.ops.triton.tile_table import PATH, Choice, architecture, table

TOGETHER = 8  # candidates that are compiled at a time
# Of the largest number of a result: its rounding in 16 bits; sums of float32 in another order.
TOLERANCES = {torch.bfloat16: 2**-6, torch.float16: 2**-9, torch.float32: 1e-5, torch.int64: 0.0}

Clock = Callable[[Callable[[], object]], float]  # milliseconds that a function takes


@dataclass(frozen=True)
class Limits:
    """Bytes and operations that the device does in a millisecond."""

    nbytes: float
    operations: Mapping[torch.dtype, float]

    def milliseconds(self, call: Call, dtype: torch.dtype) -> float:
        """The least that a call can take; rows of which dtype decides how fast products are."""
        products = call.operations / self.operations[dtype] if call.operations else 0.0
        return max(call.nbytes / self.nbytes, products)


@dataclass(frozen=True)
class Tuned:
    """What came of an entry: the trials, the present choice first; and for that the parts of the limits."""

    name: str
    titles: list[str]
    trials: list[Trial]
    least: list[float]


def device_clock(run: Callable[[], object]) -> float:
    """The median of some runs, none of which finds its operands in the L2 cache."""
    return float(triton.testing.do_bench(run, warmup=5, rep=25, return_mode="median"))


def measured_limits(device: torch.device, clock: Clock, size: int = 8192) -> Limits:
    """By a copy, and by products of square matrices."""
    memory = torch.empty(2, 4 * size * size, dtype=torch.uint8, device=device)
    operations = {}
    for dtype in (torch.bfloat16, torch.float32):
        square = torch.randn(size, size, device=device, dtype=dtype)
        operations[dtype] = 2.0 * size**3 / clock(partial(torch.mm, square, square))
    return Limits(memory.numel() / clock(lambda: memory[0].copy_(memory[1])), operations)


@contextmanager
def trying(arch: int, name: str, numbers: Numbers) -> Iterator[None]:
    """Have the kernels take other numbers for an entry."""
    entries = table()[arch]
    present = entries[name]
    entries[name] = Choice(numbers, present.source)
    try:
        yield
    finally:
        entries[name] = present


def tuned(name: str, arch: int, own: Sequence[Call], limits: Limits, clock: Clock, seconds: float) -> Tuned:
    """Try what there is to try for an entry in so many seconds, the nearest first."""
    end = time.perf_counter() + seconds
    present, results = _present(own, clock)
    trials = [Trial(table()[arch][name].numbers, present)]
    least = [limits.milliseconds(call, result.dtype) for call, result in zip(own, results, strict=True)]
    left = iter(candidates(arch, name, table()[arch]))
    while time.perf_counter() < end and (some := list(islice(left, TOGETHER))):
        _compile(arch, name, own, some)
        for numbers in some:
            if time.perf_counter() < end:
                with trying(arch, name, numbers):
                    trials.append(_trial(numbers, arch, own, results, clock))
    return Tuned(name, [call.title for call in own], trials, least)


def _present(own: Sequence[Call], clock: Clock) -> tuple[tuple[float, ...], list[torch.Tensor]]:
    runs = [run_recorded(call) for call in own]
    return tuple(clock(again) for _, again, _ in runs), [result for result, _, _ in runs]


def _compile(arch: int, name: str, own: Sequence[Call], some: Sequence[Numbers]) -> None:
    """Have what the trials launch compiled before, side by side."""
    if triton.knobs.runtime.interpret:
        return
    with compiling():
        for numbers in some:
            for call in own:
                with trying(arch, name, numbers), recorders(call, only_compiled=True):
                    call.run()


def _trial(numbers: Numbers, arch: int, own: Sequence[Call], results: Sequence[torch.Tensor], clock: Clock) -> Trial:
    """A candidate over all calls; whatever the compiler or the driver has against it is the reason why not."""
    times = []
    for call, expected in zip(own, results, strict=True):
        try:
            found, again, compiled = run_recorded(call)
        except Exception as error:  # noqa: BLE001 - Triton raises errors of many kinds, some of them RuntimeError
            return Trial(numbers, why_not=f"{type(error).__name__}: {error}".splitlines()[0])
        why_not = too_much(compiled, arch) or differs(found, expected)
        if why_not:
            return Trial(numbers, why_not=why_not)
        times.append(clock(again))
    return Trial(numbers, tuple(times))


def too_much(compiled: Sequence[Any], arch: int) -> str:
    """What compiled kernels have too much of, if anything."""
    for kernel in compiled:
        if kernel.metadata.shared > MEMORY[arch]:
            return f"{kernel.metadata.shared} bytes of shared memory"
        if kernel.n_spills:
            return f"{kernel.n_spills} spilled registers"
    return ""


def differs(found: torch.Tensor, expected: torch.Tensor) -> str:
    """Whether a result is another one than the present choice's, beyond rounding; what is no number always is."""
    apart = (found.double() - expected.double()).abs().max()
    allowed = TOLERANCES[expected.dtype] * expected.double().abs().max()
    return "" if bool(apart <= allowed) else f"differs by {float(apart):.2g}"


def markdown(done: Tuned) -> str:
    """A table of the trials, the best first; after that those that are no choice."""
    present, chosen = done.trials[0], best(done.trials)
    measured = sorted((trial for trial in done.trials if not trial.why_not), key=lambda one: relative(one, present))
    lines = [f"## {done.name}", "", f"| {' | '.join(present.numbers)} | {' | '.join(done.titles)} | |"]
    lines.append(f"|{'---|' * (len(present.numbers) + len(done.titles) + 1)}")
    for trial in [*measured, *(trial for trial in done.trials if trial.why_not)]:
        cells = [f"{ms:.4f} ms, {least / ms:.0%}" for ms, least in zip(trial.times, done.least, strict=False)]
        cells += ["-"] * (len(done.titles) - len(cells))
        note = trial.why_not or " ".join(("present",) * (trial is present) + ("chosen",) * (trial is chosen))
        lines.append(f"| {' | '.join([*map(str, trial.numbers.values()), *cells, note])} |")
    return "\n".join(lines) + "\n"


def run(
    names: Sequence[str],
    device: torch.device,
    *,
    seconds: float,
    file: Path | None,
    source: str,
    sizes: Sizes = MIXTRAL,
    clock: Clock = device_clock,
    square: int = 8192,
) -> None:
    """Tune entries one after the other, and write each choice at once into `file`, if there is one."""
    arch, end = architecture(device), time.perf_counter() + seconds
    limits = measured_limits(device, clock, square)
    for place, name in enumerate(names):
        share = (end - time.perf_counter()) / (len(names) - place)
        own = calls(name, arch, sizes, device) if share > 0 else []
        if not own:
            print(f"{name}: {'nothing to measure' if share > 0 else 'the time is over'}", flush=True)
            continue
        done = tuned(name, arch, own, limits, clock, share)
        print(markdown(done), flush=True)
        if file is not None and len(done.trials) > 1:
            choice = Choice(best(done.trials).numbers, source)
            table()[arch][name] = choice  # what is tuned after it goes by it
            file.write_text(rewritten(file.read_text(encoding="utf-8"), arch, name, choice), encoding="utf-8")


def entries(arch: int, wanted: Sequence[str]) -> list[str]:
    """The names of an architecture's entries that begin with one of `wanted`; all without any."""
    names = list(table()[arch])
    found = [name for name in names if not wanted or any(f"{name}/".startswith(f"{part}/") for part in wanted)]
    if not found:
        sys.exit(f"no entry is called {', '.join(wanted)}; there are {', '.join(names)}")
    return found


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    lines = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.tune", description=lines[0])
    parser.add_argument("--kernel", action="append", default=[], metavar="NAME", help="as up, up/int4, or up/int4/16")
    parser.add_argument("--seconds", type=float, default=300.0, help="of all together")
    parser.add_argument("--write", action="store_true", help=f"write the best into {PATH.name}")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Run."""
    options = arguments(words)
    if not torch.cuda.is_available():
        sys.exit("no GPU: torch.cuda.is_available() is False")
    device = torch.device("cuda", torch.cuda.current_device())
    torch.manual_seed(0)
    source = f"{torch.cuda.get_device_name(device)}, {time.strftime('%Y-%m-%d')}"
    with torch.inference_mode():
        names = entries(architecture(device), options.kernel)
        run(names, device, seconds=options.seconds, file=PATH if options.write else None, source=source)


if __name__ == "__main__":
    main()
