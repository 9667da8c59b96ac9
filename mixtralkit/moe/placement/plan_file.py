"""Plan files: placements of all layers as JSON, written once and used by later runs.

    {"num_experts": 8, "world_size": 2, "layers": [[[0, 1, 2, 3, 5], [4, 5, 6, 7]], ...]}

Each layer lists, for each rank, the experts that it holds. Every expert needs an owner in every layer; replicas are
further owners.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mixtralkit.errors import UsageError
from mixtralkit.moe.placement.plan import Placement

_KEYS = ("num_experts", "world_size", "layers")
_REMEDY = "write it again with mixtralkit experts --plan"


def write_plan(path: Path, placements: Sequence[Placement]) -> None:
    """Write `placements`, one a layer, to `path`: a line a layer, and all of it or nothing."""
    layers = ",\n  ".join(json.dumps(placement.experts_of_rank) for placement in placements)
    first = placements[0]
    head = f'{{"num_experts": {first.num_experts}, "world_size": {first.world_size}, "layers": ['
    partial = path.with_name(path.name + ".partial")
    partial.write_text(f"{head}\n  {layers}\n]}}\n", encoding="utf-8")
    os.replace(partial, path)


def read_plan(path: Path, *, num_layers: int, num_experts: int, world_size: int) -> tuple[Placement, ...]:
    """The placements in `path`, one a layer.

    Raises `UsageError` when it cannot be read, is not a plan, or is for another model or number of ranks.
    """
    content = _content(path)
    wanted = {"num_experts": num_experts, "world_size": world_size}
    names = {"num_experts": "experts a layer", "world_size": "ranks"}
    for key, here in wanted.items():
        if content[key] != here or isinstance(content[key], bool):
            raise UsageError(f"the plan {path} is for {content[key]!r} {names[key]}, and here are {here}; {_REMEDY}")
    layers = content["layers"]
    if not isinstance(layers, list) or len(layers) != num_layers:
        found = f"{len(layers)} layers" if isinstance(layers, list) else "no list of layers"
        raise UsageError(f"the plan {path} has {found}, and the model has {num_layers}; {_REMEDY}")
    return tuple(
        _placement(ranks, num_experts, world_size, f"the plan {path}, layer {layer},")
        for layer, ranks in enumerate(layers)
    )


def _content(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the plan {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the plan {path} is not valid JSON: {error}; {_REMEDY}") from error
    missing = [key for key in _KEYS if key not in content] if isinstance(content, dict) else _KEYS
    if missing:
        raise UsageError(f"{path} is not a plan: it has no {', '.join(map(repr, missing))}; {_REMEDY}")
    return content


def _placement(ranks: object, num_experts: int, world_size: int, where: str) -> Placement:
    if not isinstance(ranks, list) or len(ranks) != world_size:
        found = f"{len(ranks)} ranks" if isinstance(ranks, list) else repr(ranks)
        raise UsageError(f"{where} has {found}; a list of experts for each of the {world_size} ranks is needed")
    held = [_experts(experts, num_experts, f"{where} rank {rank},") for rank, experts in enumerate(ranks)]
    ownerless = sorted(set(range(num_experts)) - {expert for experts in held for expert in experts})
    if ownerless:
        raise UsageError(f"{where} gives no rank the experts {', '.join(map(str, ownerless))}; each needs an owner")
    return Placement(num_experts, tuple(held))


def _experts(experts: object, num_experts: int, where: str) -> tuple[int, ...]:
    """Ascending, as a placement has them, however they were written."""
    if not isinstance(experts, list):
        raise UsageError(f"{where} has {experts!r}; a list of experts is needed")
    for expert in experts:
        if not isinstance(expert, int) or isinstance(expert, bool) or not 0 <= expert < num_experts:
            raise UsageError(f"{where} has {expert!r}; experts are whole numbers from 0 to {num_experts - 1}")
    if len(set(experts)) < len(experts):
        raise UsageError(f"{where} has an expert twice: {experts}; each may be there once")
    return tuple(sorted(experts))
