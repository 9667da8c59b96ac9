"""A checkpoint in several files: which ones, in which order, and whether they are all there."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from mixtralkit.checkpoint.split_files import FileParts, name_some
from mixtralkit.errors import CheckpointError


def files_of_index(path: Path, files: Mapping[str, FileParts]) -> tuple[FileParts, ...]:
    """The files that the index at `path` names, by name. Raises `CheckpointError` naming those not in `files`."""
    names = sorted(set(read_weight_map(path).values()))
    missing = [name for name in names if name not in files]
    if missing:
        raise CheckpointError(f"{path} names files that are not there: {name_some(missing)}; download them")
    return tuple(files[name] for name in names)


def read_weight_map(path: Path) -> dict[str, str]:
    """The index's table from tensor to file. Raises `CheckpointError` when it is not such a table."""
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        pairs = dict(weight_map.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a valid index (it needs a 'weight_map'); download it again") from error
    if not pairs or not all(isinstance(name, str) for name in pairs.values()):
        raise CheckpointError(f"{path}: its 'weight_map' does not give a file for each tensor; download it again")
    return pairs


def in_order(folder: Path, pattern: re.Pattern[str], names: Iterable[str]) -> list[str]:
    """Those of `names` that fit `pattern`, by its group `number`.

    Numbers go from 0 to the highest or, with a group `total`, from 1 to that. Raises `CheckpointError` naming a number
    that is missing or there twice, and files of several totals.
    """
    matches = [match for name in names if (match := pattern.fullmatch(name))]
    totals = {int(match["total"]) for match in matches if "total" in pattern.groupindex}
    if len(totals) > 1:
        raise CheckpointError(f"{folder} has files of several sets: {_listed(matches)}; keep one set")
    found = {int(match["number"]): match.string for match in matches}
    if len(found) < len(matches):
        raise CheckpointError(f"{folder} has a number twice among {_listed(matches)}; remove the wrong one")
    wanted = range(1, totals.pop() + 1) if totals else range(max(found, default=-1) + 1)
    missing = [str(number) for number in wanted if number not in found]
    if missing:
        raise CheckpointError(
            f"{folder} has {_listed(matches)} but lacks number {name_some(missing)}; download what is missing"
        )
    return [found[number] for number in sorted(found)]


def _listed(matches: list[re.Match[str]]) -> str:
    return name_some(sorted(match.string for match in matches))
