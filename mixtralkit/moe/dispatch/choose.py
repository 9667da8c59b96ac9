"""The names of the dispatches, and the choice among them. Pure: what the machines can do is in the facts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mixtralkit.dist.topology import Topology
from mixtralkit.errors import UsageError
from mixtralkit.sizes import counted

DISPATCH_NAMES = ("auto", "local", "collective", "all_gather", "hierarchical", "peer", "nccl")
SMALL_BATCH = 32  # tokens of all ranks in a decode step; from benchmarks/results/, measured over gloo


@dataclass(frozen=True)
class DispatchFacts:
    """What a choice goes by, the same on all ranks.

    `device_type` is "cpu" or "cuda"; `topology` who is on which node; `batch_size` how many requests a rank decodes at
    a time. `problems` has the dispatches that cannot be used here, each with the reason in words that fit behind
    "cannot be used" (obstacles.py).
    """

    device_type: str
    topology: Topology
    batch_size: int
    problems: Mapping[str, str]

    @property
    def world_size(self) -> int:
        """How many ranks there are."""
        return len(self.topology.node_of_rank)

    @property
    def nodes_have_several_ranks(self) -> bool:
        """Whether there are several nodes, and more ranks than nodes."""
        return 1 < self.topology.num_nodes < self.world_size


@dataclass(frozen=True)
class DispatchChoice:
    """The dispatch to use; `missed` has those that would have been better, each with the reason why it cannot be."""

    name: str
    why: str
    missed: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """All of it in a few words."""
        return "; ".join((self.why, *self.missed))


def choose_dispatch(name: str, facts: DispatchFacts) -> DispatchChoice:
    """The dispatch that `name` means here. Raises `UsageError` for one that does not exist or cannot work here."""
    if name not in DISPATCH_NAMES:
        raise UsageError(f"there is no dispatch {name!r}; choose one of {', '.join(DISPATCH_NAMES)}")
    if name == "local" and facts.world_size > 1:
        raise UsageError(f"the dispatch 'local' needs all experts on one rank, but there are {facts.world_size} ranks")
    if name in facts.problems:
        problem = facts.problems[name]
        raise UsageError(f"the dispatch {name!r} cannot be used: {problem}; leave the choice to --dispatch auto")
    return _automatic(facts) if name == "auto" else DispatchChoice(name, "as asked")


def candidates(asked: str, chosen: str, facts: DispatchFacts) -> tuple[str, ...]:
    """The dispatches among which each step may choose anew, if `asked` for became `chosen`: few messages are best for
    few tokens and slow links, and few bytes for many tokens.

    hierarchical is among them on GPUs, whose links in a node are many times as fast as those between nodes. Between
    CPUs it gained a tenth at 100 Mbit/s and lost at 1 Gbit/s (benchmarks/results): there it is for who asks for it.
    """
    if asked != "auto" or chosen in ("local", "peer") or facts.topology.num_nodes == 1:
        return (chosen,)
    few_messages = () if chosen == "nccl" else ("all_gather",)
    few_bytes = ("hierarchical",) if facts.device_type == "cuda" and facts.nodes_have_several_ranks else ()
    return ("nccl" if chosen == "nccl" else "collective", *few_messages, *few_bytes)


def _automatic(facts: DispatchFacts) -> DispatchChoice:
    """The first of the good ones that can be used."""
    if facts.world_size == 1:
        return DispatchChoice("local", "all experts are on this rank")
    missed: tuple[str, ...] = ()
    for name, why in _good(facts):
        if name not in facts.problems:
            return DispatchChoice(name, why, missed)
        missed += (f"not {name}: {facts.problems[name]}",)
    raise AssertionError("collective works everywhere")


def _good(facts: DispatchFacts) -> Iterator[tuple[str, str]]:
    """The dispatches that are good for these ranks, the best first, and why."""
    ranks, place = f"{facts.world_size} ranks", "node" if facts.device_type == "cuda" else "host"
    nodes, batches = counted(facts.topology.num_nodes, place), f"with batches of up to {facts.batch_size}"
    if facts.topology.num_nodes == 1 or "peer" not in facts.problems:
        yield "peer", f"{ranks} on one {place}: rows go through memory that they share"
    if facts.device_type == "cuda":
        yield "nccl", f"{ranks} on {nodes}: each row is sent straight to its expert"
    elif facts.batch_size * facts.world_size <= SMALL_BATCH:
        yield "all_gather", f"{ranks} {batches}: few messages win"
    yield "collective", f"{ranks} {batches}: each row travels to its expert only"
