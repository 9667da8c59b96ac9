"""A case's time over several repeats, and how near it comes to the machine's limit."""

import itertools
from dataclasses import dataclass
from typing import Any

from mixtralkit.bench.case_run import CaseRun, Sample
from mixtralkit.bench.limits import Rates, bound_of, limit_seconds
from mixtralkit.bench.machine_rates import MachineRates, rates_of
from mixtralkit.bench.repeats import Repeats

Measured = dict[str, float]


@dataclass(frozen=True)
class Figure:
    """The repeats of a case, each with the machine's rates around it."""

    run: CaseRun
    samples: tuple[Sample, ...]
    rates: tuple[Rates, ...]

    @property
    def milliseconds(self) -> Repeats:
        """The time of a step."""
        return Repeats(tuple(sample.seconds * 1e3 for sample in self.samples))

    @property
    def limit_milliseconds(self) -> Repeats:
        """The time that a step would take at best, at the rates of that repeat."""
        pairs = zip(self.samples, self.rates, strict=True)
        return Repeats(tuple(limit_seconds(sample.work, rates) * 1e3 for sample, rates in pairs))

    @property
    def percent_of_limit(self) -> Repeats:
        """How much of what the machine allowed was reached, in each repeat."""
        pairs = zip(self.limit_milliseconds.values, self.milliseconds.values, strict=True)
        return Repeats(tuple(100 * limit / taken for limit, taken in pairs))

    def document(self) -> dict[str, Any]:
        """As JSON."""
        case, milliseconds, work = self.run.case, self.milliseconds, self.samples[0].work
        return {
            "phase": case.phase,
            "requests": case.requests,
            "prompt_tokens": case.length,
            "dispatch": self.run.dispatch.name,
            "cuda_graph": self.run.recorded,
            "milliseconds": milliseconds.document(),
            "tokens_per_second": case.tokens / milliseconds.median * 1e3,
            "limit_milliseconds": self.limit_milliseconds.median,
            "bound": bound_of(work, self.rates[0]),
            "percent_of_limit": self.percent_of_limit.document(),
            "bytes": work.nbytes,
            "operations": work.operations,
            "experts_touched": work.touched,
        }


def measure(run: CaseRun, machine: MachineRates, repeats: int) -> tuple[Figure, list[Measured]]:
    """Repeat a case; also returns all the rates that the machine was measured to have meanwhile."""
    dtypes = {weight.dtype for weight in run.subject.model.parameters()}
    measured, samples = [machine.measure()], []
    for _ in range(repeats):
        samples.append(run.once())
        measured.append(machine.measure())
    around = [_mean(*pair) for pair in itertools.pairwise(measured)]
    return Figure(run, tuple(samples), tuple(rates_of(rates, dtypes) for rates in around)), measured


def _mean(before: Measured, after: Measured) -> Measured:
    return {name: (before[name] + after[name]) / 2 for name in before}
