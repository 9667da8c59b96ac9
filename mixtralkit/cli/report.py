"""How a run went: gathered from all ranks, as JSON or for people."""

import socket
from collections.abc import Sequence
from typing import Any

from mixtralkit.checkpoint.checkpoint_summary import QuantizedShare
from mixtralkit.cli.explain_table import explain_lines
from mixtralkit.cli.peak_memory import peak_device_memory, peak_memory
from mixtralkit.cli.strategy_effects import own_figures, strategy_figures
from mixtralkit.cli.tables import spans, table
from mixtralkit.engine.stats import Phase
from mixtralkit.session.session import Session
from mixtralkit.sizes import counted, rate, seconds, size

BAR = 30
RULE = "=" * 30


def gather_report(session: Session) -> dict[str, Any]:
    """The report as JSON, the same on every rank; all ranks call this together. Times are seconds."""
    group, stats = session.group, session.engine.stats
    mine = {
        "rank": group.rank,
        "host": socket.gethostname(),
        "device": str(group.device),
        "experts": _held_everywhere(session),
        "experts_vary": len({p.experts_of(group.rank) for p in session.steered.steering.placements}) > 1,
        "load_seconds": session.load_seconds,
        "peak_memory_bytes": peak_memory(),
        "peak_device_memory_bytes": peak_device_memory(group.device),
        "rows": session.spread.timeline.rows_computed,
        "responses": [stats.decoded, stats.proposed, stats.accepted],
        "bytes_sent": group.collectives.bytes_sent + group.control.bytes_sent,
        "rows_of_own_tokens": session.load.rows_LE.tolist(),
        "strategies": own_figures(session),
    }
    ranks = group.control.all_gather_json(mine)
    counts = [rank.pop("rows_of_own_tokens") for rank in ranks]
    rows_LWE = list(zip(*counts, strict=True))
    rows_LE = [[sum(cells) for cells in zip(*rows_WE, strict=True)] for rows_WE in rows_LWE]
    rows_E = [sum(column) for column in zip(*rows_LE, strict=True)]
    decoded, proposed, accepted = map(sum, zip(*(rank.pop("responses") for rank in ranks), strict=True))
    strategies = strategy_figures(session, [rank.pop("strategies") for rank in ranks], rows_LWE)
    return {
        "world_size": group.world_size,
        "nodes": group.topology.num_nodes,
        "dtype": str(session.model.tok_embeddings.weight.dtype).removeprefix("torch."),
        "quantized": None if session.quantized is None else _quantized(session.quantized),
        "dispatch": {"name": session.dispatch.name, "reason": session.dispatch.reason},
        "load_seconds": max(rank["load_seconds"] for rank in ranks),
        "seconds_to_first_token": stats.seconds_to_first_token,
        "prefill": _phase(stats.prefill, stats.prefill.tokens),
        "decode": _phase(stats.decode, decoded),
        "drafts": {"proposed": proposed, "accepted": accepted},
        "bytes_sent": sum(rank["bytes_sent"] for rank in ranks),
        "rows_per_expert": rows_E,
        "rows_per_layer_and_expert": rows_LE,
        "strategies": strategies,
        "ranks": ranks,
    }


def report_text(report: dict[str, Any]) -> str:
    """The report in lines of at most 100 characters or so."""
    where = f"{counted(report['world_size'], 'rank')} on {counted(report['nodes'], 'node')}"
    first = report["seconds_to_first_token"]
    facts = {
        "ranks": f"{where}, {report['ranks'][0]['device'].partition(':')[0]}, {_kept_as(report)}",
        "dispatch": f"{report['dispatch']['name']} ({report['dispatch']['reason']})",
        "load": seconds(report["load_seconds"]),
        "first token": "none" if first is None else f"after {seconds(first)}",
        "prefill": _phase_text(report["prefill"]),
        "decode": _phase_text(report["decode"]),
        "sent": f"{size(report['bytes_sent'])} between ranks",
    }
    drafts = report["drafts"]
    if drafts["proposed"]:
        share = drafts["accepted"] / drafts["proposed"]
        facts["drafts"] = f"{drafts['accepted']:,} of {drafts['proposed']:,} guessed tokens were right ({share:.0%})"
    lines = [f"{name:<12} {value}" for name, value in facts.items()]
    lines += [f"{'strategy':<12} {line}" for line in report["strategies"]["lines"]]
    parts = [f"{RULE}Report{RULE}", *lines, "", *_rank_table(report["ranks"]), "", *_expert_bars(report)]
    if report.get("explain") is not None:
        parts += ["", *explain_lines(report["explain"])]
    return "\n".join(parts)


def _held(rank: dict[str, Any]) -> str:
    """The experts of all layers; in some there may be others besides."""
    if not rank["experts_vary"]:
        return spans(rank["experts"])
    return f"{spans(rank['experts'])} and others by layer" if rank["experts"] else "by layer"


def _held_everywhere(session: Session) -> list[int]:
    """The experts that this rank holds in every layer."""
    held = [set(placement.experts_of(session.group.rank)) for placement in session.steered.steering.placements]
    return sorted(set.intersection(*held))


def _quantized(share: QuantizedShare) -> dict[str, Any]:
    return {"kind": share.kind.value, "bits_per_weight": share.bits_per_weight, "parameters": share.num_params}


def _kept_as(report: dict[str, Any]) -> str:
    quantized = report["quantized"]
    if quantized is None:
        return str(report["dtype"])
    return f"{quantized['kind']} ({quantized['bits_per_weight']:.3g} bits a weight) and {report['dtype']}"


def _phase(phase: Phase, tokens: int) -> dict[str, float]:
    """`tokens` are those of the prompts, or of the responses: of those that were fed, wrong guesses do not count."""
    return {
        "tokens": tokens,
        "seconds": phase.seconds,
        "tokens_per_second": tokens / phase.seconds if phase.seconds else 0.0,
        "steps": phase.steps,
        "recorded_steps": phase.recorded,
    }


def _phase_text(phase: dict[str, Any]) -> str:
    what = f"{counted(phase['tokens'], 'token')} in {seconds(phase['seconds'])}, {counted(phase['steps'], 'step')}"
    recorded = f", {phase['recorded_steps']:,} of them CUDA graphs" if phase["recorded_steps"] else ""
    return f"{rate(phase['tokens_per_second'])} tokens/s ({what}{recorded})"


def _rank_table(ranks: Sequence[dict[str, Any]]) -> list[str]:
    on_gpu = any(rank["peak_device_memory_bytes"] is not None for rank in ranks)
    head = ["rank", "host", "device", "experts", "rows", "sent", "peak memory", *(["on the GPU"] if on_gpu else [])]
    rows = [
        [
            str(rank["rank"]),
            rank["host"],
            rank["device"],
            _held(rank),
            f"{rank['rows']:,}",
            size(rank["bytes_sent"]),
            size(rank["peak_memory_bytes"]),
            *([size(rank["peak_device_memory_bytes"] or 0)] if on_gpu else []),
        ]
        for rank in ranks
    ]
    return table([head, *rows])


def _expert_bars(report: dict[str, Any]) -> list[str]:
    rows_E = report["rows_per_expert"]
    owners = [
        ",".join(str(rank["rank"]) for rank in report["ranks"] if expert in rank["experts"])
        for expert in range(len(rows_E))
    ]
    most, total = max(*rows_E, 1), max(sum(rows_E), 1)
    cells = [
        [str(expert), owners[expert], f"{rows:,}", f"{rows / total:.1%}", "#" * round(BAR * rows / most)]
        for expert, rows in enumerate(rows_E)
    ]
    return table([["expert", "on rank", "rows", "share", ""], *cells])
