"""All that is measured of one model on one group of ranks, as a JSON document."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from mixtralkit.bench.case_run import PROMPT, Case, CaseRun, decode_case, prefill_case
from mixtralkit.bench.figure import measure
from mixtralkit.bench.layer_times import layer_times
from mixtralkit.bench.machine_facts import machine_facts
from mixtralkit.bench.machine_rates import MachineRates
from mixtralkit.bench.private_memory import watched_memory
from mixtralkit.bench.process_age import process_age
from mixtralkit.bench.random_requests import RandomRequests
from mixtralkit.bench.repeats import Repeats
from mixtralkit.bench.round_trips import TOKENS_PER_RANK, round_trips
from mixtralkit.bench.subject import Subject
from mixtralkit.dist.launch import Group
from mixtralkit.log import get_logger, notice
from mixtralkit.sizes import counted

_logger = get_logger(__name__)
Document = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What to measure: every prefill length and every decode batch, with every one of the `dispatches`.

    `layers` and `round_trips` ask for the time by kind of layer, and that of the dispatches alone.
    """

    prefill: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    dispatches: tuple[str, ...]
    repeats: int
    layers: bool
    round_trips: bool

    @property
    def cases(self) -> list[Case]:
        """The cases, those of a dispatch together, decode first."""
        return [
            case
            for name in self.dispatches
            for case in (
                *(decode_case(size, name) for size in self.batch_sizes),
                *(prefill_case(length, name) for length in self.prefill),
            )
        ]


def bench_run(
    group: Group,
    plan: Plan,
    open_subject: Callable[[], Subject],
    *,
    torch_seconds: float,
    on_figure: Callable[[Document], None] = lambda figure: None,
) -> Document:
    """Load, measure, and return the document, the same on all ranks, which call this together.

    `torch_seconds` is what importing torch took: it does not count for the first token. `on_figure` is told
    each figure as it comes.
    """
    with watched_memory() as peak:
        started = time.perf_counter()
        subject = open_subject()
        loaded = time.perf_counter()
        first_token = _first_token(subject)
        runs = _case_runs(subject, plan)
        for run in runs:  # what the memory's peak comes from, and what the timed runs need not wait for any more
            run.once()
    rank = {
        "rank": group.rank,
        "load_seconds": loaded - started,
        "first_token_seconds": None if first_token is None else first_token - torch_seconds,
        "peak_private_bytes": peak.nbytes,
    }
    return {
        **machine_facts(group.device),
        "world_size": group.world_size,
        "dtype": str(subject.model.tok_embeddings.weight.dtype).removeprefix("torch."),
        "quantize": subject.quantized,
        "ranks": group.control.all_gather_json(rank),
        **_figures(group, runs, plan.repeats, on_figure),
        "layers": [layer_times(run) for run in runs] if plan.layers else [],
        "round_trips": _round_trips(subject, plan) if plan.round_trips else [],
    }


def _case_runs(subject: Subject, plan: Plan) -> list[CaseRun]:
    """The cases, each dispatch once, whatever it is asked for as; what a name comes to on these ranks is said."""
    runs: dict[Case, CaseRun] = {}
    ranks = counted(subject.group.world_size, "rank")
    for case in plan.cases:
        run = CaseRun(subject, case)
        asked, name = case.dispatch, run.dispatch.name
        first = runs.setdefault(replace(case, dispatch=name), run)
        if first is not run:
            notice(_logger, f"--dispatch {first.case.dispatch} and {asked} are both {name} on {ranks}: measured once")
        elif asked not in ("auto", name):
            notice(_logger, f"--dispatch {asked} is {name} on {ranks}")
    return list(runs.values())


@torch.inference_mode()
def _first_token(subject: Subject) -> float | None:
    """Let a first prompt through; returns the age of this process then."""
    requests = RandomRequests(subject, total=1, context=PROMPT)
    requests.run(requests.draw(PROMPT), 0)
    return process_age()


def _figures(
    group: Group, runs: list[CaseRun], repeats: int, on_figure: Callable[[Document], None]
) -> dict[str, Document | list[Document]]:
    machine, figures, measured = MachineRates(group), [], []
    for run in runs:
        figure, rates = measure(run, machine, repeats)
        figures.append(figure.document())
        measured += rates
        on_figure(figures[-1])
    rates_of = {name: Repeats(tuple(rates[name] for rates in measured)) for name in measured[0]}
    return {"rates": {name: rates.document() for name, rates in rates_of.items()}, "figures": figures}


def _round_trips(subject: Subject, plan: Plan) -> list[Document]:
    config = subject.config
    dispatches = {each.name: each for each in (subject.dispatch_for(name, 1) for name in plan.dispatches)}
    return [
        round_trips(
            subject.group,
            dispatch,
            tokens,
            width=config.dim,
            num_experts=config.num_experts,
            top_k=config.top_k,
            repeats=3 * plan.repeats,
        )
        for dispatch in dispatches.values()
        for tokens in TOKENS_PER_RANK
    ]
