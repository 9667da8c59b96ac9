"""Do all ranks believe the same things? Compared right after they meet, before anything expensive starts."""

import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch

from mixtralkit import __version__
from mixtralkit.dist.collectives import Collectives
from mixtralkit.errors import LaunchError


def common_beliefs(world_size: int, device_kind: str) -> dict[str, str]:
    """What every rank must have in common whatever it runs; values are for people to read."""
    return {
        "world size": str(world_size),
        "mixtralkit version": __version__,
        "torch version": torch.__version__,
        "python version": ".".join(platform.python_version_tuple()[:2]),
        "device kind": device_kind,
        # Two architectures add up in two orders, and the rank on which a row is computed must not show in the text.
        "processor architecture": platform.machine(),
    }


def check_agreement(beliefs: Mapping[str, Mapping[str, str]]) -> None:
    """Compare the beliefs of ranks: `beliefs["rank 0 on host"][field]`, the ranks in their order.

    Raises:
        LaunchError: naming every field that differs, its values and who has them, the majority first; the same
            message on every rank that was given the same beliefs.

    """
    fields = dict.fromkeys(field for held in beliefs.values() for field in held)
    lines = [_difference(field, beliefs) for field in fields]
    different = [line for line in lines if line]
    if different:
        raise LaunchError(
            "the ranks do not agree: " + "; ".join(different) + ". Start all of them with the same command, versions "
            "and files"
        )


def agree(collectives: Collectives, beliefs: Mapping[str, str]) -> None:
    """Compare `beliefs` between the ranks of a running group, for what is known only later (a checkpoint's digest).

    All ranks call this together. Raises `LaunchError` like `check_agreement`.
    """
    gathered = collectives.all_gather_json(dict(beliefs))
    check_agreement({f"rank {rank}": held for rank, held in enumerate(gathered)})


def _difference(field: str, beliefs: Mapping[str, Mapping[str, str]]) -> str | None:
    who_has = defaultdict[str, list[str]](list)
    for who, held in beliefs.items():
        who_has[held.get(field, "not given")].append(who)
    if len(who_has) == 1:
        return None
    by_majority = sorted(who_has.items(), key=lambda item: -len(item[1]))
    return f"{field} is " + ", ".join(f"{value} for {_listed(who)}" for value, who in by_majority)


def _listed(names: Sequence[str]) -> str:
    """At most four of `names`, then how many more."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more
