"""What --explain found, for people: the rates, and a table a kind of step."""

from collections.abc import Mapping
from typing import Any

from mixtralkit.cli.rates_text import rates_lines
from mixtralkit.cli.tables import table

_HEAD = ["", "placement", "dispatch", "parts", "predicted ms", "measured ms", "error"]


def explain_lines(explained: Mapping[str, Any]) -> list[str]:
    """The lines for `explain`'s document."""
    if explained["nothing_to_choose"]:
        return ["One rank holds all experts and sends nothing: there is nothing to choose."]
    if not explained["steps"]:
        return ["No step has run: there is nothing to explain."]
    lines = [line for way, rates in explained["rates"].items() for line in rates_lines(way, rates)]
    for name, step in explained["steps"].items():
        lines += ["", *_step_lines(name, step)]
    return lines


def _step_lines(name: str, step: Mapping[str, Any]) -> list[str]:
    tokens = step["tokens_of_ranks"]
    some = "" if step["layers_measured"] == step["layers"] else f", measured in {step['layers_measured']} of them"
    ranks = ", ".join(map(str, tokens))
    return [
        f"A {name} step of {sum(tokens):,} tokens ({ranks} on the ranks), {step['layers']} MoE layers{some}",
        f"Chosen: {step['why']}.",
        *table([_HEAD, *map(_cells, step["alternatives"])]),
        *_fastest(step),
    ]


def _cells(row: Mapping[str, Any]) -> list[str]:
    measured, error = row["measured_seconds"], row["error"]
    return [
        "->" if row["chosen"] else "",
        row["placement"],
        row["dispatch"],
        str(row["parts"]),
        f"{row['predicted_seconds'] * 1e3:,.3f}",
        "-" if measured is None else f"{measured * 1e3:,.3f}",
        "-" if error is None else f"{error:+.0%}",
    ]


def _fastest(step: Mapping[str, Any]) -> list[str]:
    """Whether something else turned out to be faster than what was chosen."""
    measured = [row for row in step["alternatives"] if row["measured_seconds"] is not None]
    chosen = next((row for row in measured if row["chosen"]), None)
    if chosen is None or len(measured) < len(step["alternatives"]):
        note = ["- was not measured: its experts are not loaded here, or the time for measuring was over."]
    else:
        note = []
    if chosen is None:
        return note
    best = min(measured, key=lambda row: float(row["measured_seconds"]))
    ratio = chosen["measured_seconds"] / best["measured_seconds"]
    words = "is the fastest of those measured" if best is chosen else f"takes {ratio:.2f} times the fastest measured"
    return [*note, f"What was chosen {words}."]
