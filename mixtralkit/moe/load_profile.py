"""The load of a run, kept for planning: which ranks' tokens went to which experts. Read and written as JSON.

The file holds an object: "mixtralkit", the version that wrote it, which nobody reads; "model", the fields of
`ProfiledModel`; "steps"; "world_size"; "node_of_rank", a number a rank; and "rows", `rows_LWE` as lists.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mixtralkit import __version__
from mixtralkit.dist.topology import Topology
from mixtralkit.errors import UsageError

MOST = 2**63 - 1  # what counts are kept in
DemandLWE = tuple[tuple[tuple[float, ...], ...], ...]
RowsLWE = tuple[tuple[tuple[int, ...], ...], ...]


@dataclass(frozen=True)
class ProfiledModel:
    """What is to be known of the model: its shape, and the bytes of an expert of one layer and of a row on its way."""

    name: str
    num_layers: int
    num_experts: int
    top_k: int
    dim: int
    hidden_dim: int
    expert_bytes: int
    row_bytes: int


@dataclass(frozen=True)
class LoadProfile:
    """`rows_LWE[l][w][e]` is how many rows of rank w's tokens went to expert e of layer l, in so many `steps`.

    `node_of_rank` is that of a `Topology`. Raises `UsageError` for parts that do not fit each other.
    """

    model: ProfiledModel
    steps: int
    node_of_rank: tuple[int, ...]
    rows_LWE: RowsLWE

    def __post_init__(self) -> None:
        _check_nodes(self.node_of_rank)
        model = self.model
        if model.top_k > model.num_experts:
            raise UsageError(f"'top_k' is {model.top_k}, but there are only {model.num_experts} experts")
        _check_length("'rows'", self.rows_LWE, model.num_layers, "layer")
        for layer, rows_WE in enumerate(self.rows_LWE):
            _check_length(f"layer {layer} of 'rows'", rows_WE, self.world_size, "rank")
            for rank, rows_E in enumerate(rows_WE):
                _check_length(f"layer {layer}, rank {rank} of 'rows'", rows_E, model.num_experts, "expert")

    @property
    def world_size(self) -> int:
        """How many ranks there were."""
        return len(self.node_of_rank)

    @property
    def topology(self) -> Topology:
        """Where the ranks were."""
        return Topology(self.node_of_rank)

    @property
    def rows_LE(self) -> tuple[tuple[int, ...], ...]:
        """The rows of all ranks' tokens."""
        return tuple(tuple(map(sum, zip(*rows_WE, strict=True))) for rows_WE in self.rows_LWE)

    def demand_of(self, world_size: int) -> DemandLWE:
        """The rows of each rank's tokens, with `world_size` ranks.

        With another number of them than the profile has, each has as many of every expert: which tokens go to which
        rank is then a matter of chance.
        """
        if world_size == self.world_size:
            return self.rows_LWE
        return tuple((tuple(rows / world_size for rows in rows_E),) * world_size for rows_E in self.rows_LE)


def write_profile(profile: LoadProfile, file: Path) -> None:
    """Write `profile`. Raises `UsageError` when the file cannot be written."""
    document = {
        "mixtralkit": __version__,
        "model": asdict(profile.model),
        "steps": profile.steps,
        "world_size": profile.world_size,
        "node_of_rank": profile.node_of_rank,
        "rows": profile.rows_LWE,
    }
    try:
        file.write_text(json.dumps(document) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from error


def read_profile(file: Path) -> LoadProfile:
    """Read what `write_profile` wrote. Raises `UsageError` that says what is wrong with the file."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the profile {file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the profile {file} is not valid JSON: {error}") from error
    try:
        return _profile(document)
    except UsageError as error:
        made_by = "'mixtralkit generate --expert-load FILE' and 'mixtralkit experts --save FILE' write profiles"
        raise UsageError(f"{file} is not a profile of experts' load: {error}; {made_by}") from error


def _profile(document: Any) -> LoadProfile:
    if not isinstance(document, Mapping):
        raise UsageError(f"it holds a {type(document).__name__}, not an object")
    model = _part(document, "model")
    if not isinstance(model, Mapping):
        raise UsageError(f"'model' is a {type(model).__name__}, not an object")
    name, counts = _part(model, "name"), [item.name for item in fields(ProfiledModel) if item.name != "name"]
    if not isinstance(name, str):
        raise UsageError(f"'name' is {name!r}; a text is needed")
    shape = {count: _whole(_part(model, count), f"'{count}'", least=1) for count in counts}
    nodes = tuple(_whole(node, "a node in 'node_of_rank'") for node in _listed(document, "node_of_rank"))
    world_size = _whole(_part(document, "world_size"), "'world_size'", least=1)
    _check_length("'node_of_rank'", nodes, world_size, "rank")
    rows_LWE = tuple(
        tuple(tuple(_whole(rows, "a number in 'rows'") for rows in _list(rows_E)) for rows_E in _list(rows_WE))
        for rows_WE in _listed(document, "rows")
    )
    steps = _whole(_part(document, "steps"), "'steps'", least=1)
    return LoadProfile(ProfiledModel(name=name, **shape), steps, nodes, rows_LWE)


def _part(document: Mapping[str, Any], key: str) -> Any:
    if key not in document:
        raise UsageError(f"'{key}' is missing")
    return document[key]


def _listed(document: Mapping[str, Any], key: str) -> list[Any]:
    value = _part(document, key)
    if not isinstance(value, list):
        raise UsageError(f"'{key}' is a {type(value).__name__}, not a list")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise UsageError(f"'rows' holds a {type(value).__name__} where a list is needed: layers of ranks of experts")
    return value


def _whole(value: Any, what: str, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= MOST:
        raise UsageError(f"{what} is {value!r}; a whole number of at least {least} is needed")
    return value


def _check_length(what: str, values: tuple[Any, ...], needed: int, noun: str) -> None:
    if len(values) != needed:
        raise UsageError(f"{what} has {len(values)} entries; one for each {noun} is needed, {needed}")


def _check_nodes(node_of_rank: tuple[int, ...]) -> None:
    known = 0
    for rank, node in enumerate(node_of_rank):
        if node > known:
            raise UsageError(f"rank {rank} is on node {node} and there is no node {known} before; count from 0")
        known = max(known, node + 1)
