"""The document of `mixtralkit experts` for people."""

from collections.abc import Sequence
from typing import Any

from mixtralkit.cli.heat_text import heat_lines
from mixtralkit.cli.tables import table
from mixtralkit.moe.placement.balance import busiest_over_mean
from mixtralkit.sizes import counted, size

Document = dict[str, Any]


def experts_text(document: Document, *, coloured: bool) -> str:
    """What was measured, experts by layer, and where there are several, ranks by layer and the placements compared."""
    lines = [*_facts(document), "", *_expert_lines(document, coloured=coloured)]
    if document["world_size"] > 1:
        for placement in document["placements"]:
            lines += ["", *_rank_lines(document, placement, coloured=coloured)]
        lines += ["", *_comparison(document["placements"])]
    return "\n".join(lines)


def _facts(document: Document) -> list[str]:
    model, measured = document["model"], document["measured"]
    shape = f"{counted(model['num_layers'], 'layer')} of {counted(model['num_experts'], 'expert')}"
    tokens = f"{counted(measured['tokens'], 'token')} in {counted(measured['steps'], 'step')}"
    where = f"{counted(measured['world_size'], 'rank')} on {counted(measured['nodes'], 'node')}"
    each = f"{model['top_k']} a token, of {size(model['expert_bytes'])} in a layer"
    lines = [f"model     {model['name']}: {shape}, {each}", f"measured  {tokens}, {where}"]
    return lines + [f"plan      {each['reason']}" for each in document["placements"] if each["reason"]]


def _expert_lines(document: Document, *, coloured: bool) -> list[str]:
    rows_LE, rows_E = document["rows_per_layer_and_expert"], document["rows_per_expert"]
    ratios = [*document["imbalance_of_experts"], busiest_over_mean(rows_E)]
    head = f"experts: percent of the {counted(sum(rows_LE[0]), 'row')} of a layer, and the busiest over the mean"
    return [head, *_heat([*rows_LE, rows_E], ratios, coloured=coloured)]


def _rank_lines(document: Document, placement: Document, *, coloured: bool) -> list[str]:
    rows_LW = placement["rows_per_layer_and_rank"]
    rows_W = [sum(rows) for rows in zip(*rows_LW, strict=True)]
    ratios = [*placement["imbalance_of_ranks"], busiest_over_mean(rows_W)]
    nodes = max(document["node_of_rank"]) + 1
    where = f"{counted(document['world_size'], 'rank')} on {counted(nodes, 'node')}"
    head = f"ranks: percent of a layer's rows that each of {where} computes; {placement['name']}"
    return [head, *_heat([*rows_LW, rows_W], ratios, coloured=coloured)]


def _heat(values: Sequence[Sequence[float]], ratios: Sequence[float], *, coloured: bool) -> list[str]:
    """A line a layer, and one for all of them."""
    names = [*map(str, range(len(values) - 1)), "all"]
    notes = ["busiest", *(f"{ratio:7.2f}" for ratio in ratios)]
    return heat_lines(["layer", *names], values, notes, coloured=coloured)


def _comparison(placements: list[Document]) -> list[str]:
    """A line a placement. Each layer waits for its own busiest rank, so these are added up over the layers."""
    heads = [
        "placement",
        "busiest rank/mean",
        "in the worst layer",
        "rows leave the rank",
        "the node",
        "experts on a rank",
    ]
    cells = [
        [
            placement["name"],
            f"{placement['imbalance']:.2f}",
            f"{max(placement['imbalance_of_ranks']):.2f}",
            f"{placement['share_leaving_rank']:.1%}",
            f"{placement['share_leaving_node']:.1%}",
            size(max(placement["expert_bytes_per_rank"])),
        ]
        for placement in placements
    ]
    return table([heads, *cells])
