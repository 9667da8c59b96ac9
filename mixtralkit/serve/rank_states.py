"""What the ranks tell of themselves, put together.

Each tells {"rank", "host", "rows_LE": the rows of its own tokens by layer and expert, "rows": the rows that its experts
computed, "experts": for each layer those it holds, "dispatch_seconds": spent in dispatch and combine}, all since the
start. Before they have told anything there are no layers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

States = Sequence[Mapping[str, Any]]


def told(states: States) -> States:
    """The states if every rank has told one, else none."""
    return states if all("rows_LE" in state for state in states) else ()


def total_rows_LE(states: States) -> list[list[int]]:
    """The rows of each layer and expert, over all ranks."""
    layers = zip(*(state["rows_LE"] for state in states), strict=True)
    return [[sum(counts) for counts in zip(*layer, strict=True)] for layer in layers]


def imbalance(rows_E: Sequence[int]) -> float:
    """The busiest expert's rows over those of an average expert; 0 without rows."""
    return max(rows_E) * len(rows_E) / sum(rows_E) if any(rows_E) else 0.0


def holders_LE(states: States) -> list[list[list[int]]]:
    """For each layer and expert the ranks that hold it now; more than one where there are replicas."""
    num_experts = [len(rows_E) for rows_E in states[0]["rows_LE"]] if states else []
    return [
        [[state["rank"] for state in states if expert in state["experts"][layer]] for expert in range(count)]
        for layer, count in enumerate(num_experts)
    ]
