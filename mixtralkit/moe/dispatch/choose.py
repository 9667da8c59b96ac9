"""Dispatches by name, and the choice among them."""

from mixtralkit.dist.collectives import Collectives
from mixtralkit.errors import UsageError
from mixtralkit.moe.dispatch.all_gather import AllGatherDispatch
from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.dispatch.collective import CollectiveDispatch
from mixtralkit.moe.dispatch.local import LocalDispatch
from mixtralkit.moe.placement.plan import Placement

DISPATCH_NAMES = ("auto", "local", "collective", "all_gather")
SMALL_BATCH = 32  # tokens of all ranks in a decode step; from benchmarks/results/, measured over gloo


def choose_dispatch(name: str, world_size: int, batch_size: int) -> tuple[str, str]:
    """The name of the dispatch to use and, in a few words, why.

    `batch_size` is how many requests a rank decodes at a time. Raises `UsageError` for a name that does not exist or
    cannot work with this many ranks.
    """
    if name not in DISPATCH_NAMES:
        raise UsageError(f"there is no dispatch {name!r}; choose one of {', '.join(DISPATCH_NAMES)}")
    if name == "local" and world_size > 1:
        raise UsageError(f"the dispatch 'local' needs all experts on one rank, but there are {world_size} ranks")
    if name != "auto":
        return name, "as asked"
    if world_size == 1:
        return "local", "all experts are on this rank"
    if batch_size * world_size <= SMALL_BATCH:
        return "all_gather", f"{world_size} ranks with batches of up to {batch_size}: few messages win"
    return "collective", f"{world_size} ranks with batches of up to {batch_size}: each row travels to its expert only"


def make_dispatch(name: str, collectives: Collectives, placement: Placement) -> Dispatch:
    """The dispatch called `name`, one of `DISPATCH_NAMES` but for auto."""
    if name == "local":
        return LocalDispatch(placement.num_experts)
    kinds = {kind.name: kind for kind in (CollectiveDispatch, AllGatherDispatch)}
    return kinds[name](collectives, placement)
