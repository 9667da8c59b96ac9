"""The placement follows the load while the program runs: hot experts get replicas, and lose them when they cool down.

From the load of all ranks every rank decides alike what to hold next (placement/transition.py), which they compare
before anything moves, and fetches it in the background (placement/transfer.py). When all have it and have proved it,
they switch together, between two steps.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology
from mixtralkit.errors import RankFailure
from mixtralkit.log import get_logger, notice
from mixtralkit.moe.placement.cost import ExpertShape, Rates
from mixtralkit.moe.placement.plan import Placement
from mixtralkit.moe.placement.rebalance import Demand
from mixtralkit.moe.placement.replica import Replica, replicas_beyond
from mixtralkit.moe.placement.transfer import Fetch, Transfer, failures
from mixtralkit.moe.placement.transition import next_placements
from mixtralkit.moe.timeline import REPLICAS, Span, Timeline

HORIZON_TOKENS = 8192  # a replica must save more than it costs within so many tokens
MOVES = 16  # replicas that are fetched at a time
_PASSES = 4  # over an expert's weights: from the file, into memory, and two checksums

_logger = get_logger(__name__)


@dataclass
class Moves:
    """What has been done so far, for the report: those refused could not be had, or are not equal to the original."""

    switches: int = 0
    replicas_fetched: int = 0
    replicas_dropped: int = 0
    replicas_refused: int = 0
    fetch_seconds: float = 0.0


@dataclass(frozen=True)
class Surroundings:
    """What decisions go by, the same on all ranks. `budget` is the bytes that a rank may spend on replicas."""

    topology: Topology
    rates: Rates
    shape: ExpertShape
    budget: int


class AdaptivePlacement:
    """Decides and switches the placements of all layers; `homes` are those that the model was loaded with.

    `held(layer)` gives this rank's experts of a layer, by number, and `switch(placements, demand, fetched)` puts new
    placements in force, with the experts that were fetched by (layer, expert).
    """

    def __init__(
        self,
        *,
        control: Collectives,
        timeline: Timeline,
        homes: Sequence[Placement],
        surroundings: Surroundings,
        held: Callable[[int], Mapping[int, nn.Module]],
        fetch: Fetch,
        switch: Callable[[Sequence[Placement], Demand, Mapping[tuple[int, int], nn.Module]], None],
    ) -> None:
        self.placements = tuple(homes)
        self.moves = Moves()
        self._control, self._timeline = control, timeline
        self._homes, self._around = tuple(homes), surroundings
        self._held, self._fetch, self._switch = held, fetch, switch
        self._wanted: tuple[Placement, ...] = self.placements
        self._transfer: Transfer | None = None
        self._refused: set[Replica] = set()

    def look(self, demand_LWE: Demand, tokens_a_step: float) -> bool:
        """Go on from where things stand, given the rows of an average step; returns whether anything moves or moved.

        All ranks call it together. Raises `RankFailure` on all of them when they have come to different decisions.
        """
        transfer = self._transfer
        if transfer is None:
            self._wanted = self._decide(demand_LWE, tokens_a_step)
            self._compare()
            return self._begin(demand_LWE)
        mine = torch.tensor([int(transfer.finished), *transfer.sums], dtype=torch.int64)
        told = self._control.all_gather(mine).tolist()
        if all(finished for finished, *_ in told):
            self._end_transfer(transfer, [sums for _, *sums in told], demand_LWE)
        return True

    def _compare(self) -> None:
        """Raise `RankFailure` where another rank wants other placements: what follows would hang or mix them up."""
        digest = torch.tensor([zlib.crc32(repr(self._wanted).encode())])
        digests = self._control.all_gather(digest).flatten().tolist()
        others = [f"rank {rank}" for rank, theirs in enumerate(digests) if theirs != digests[0]]
        if others:
            raise RankFailure(
                f"{' and '.join(others)} decided on another placement of the experts than rank 0; this is a bug: "
                "please report it, and do without an adaptive placement for now"
            )

    def _decide(self, demand_LWE: Demand, tokens_a_step: float) -> tuple[Placement, ...]:
        around = self._around
        return next_placements(
            demand_LWE,
            self.placements,
            self._homes,
            around.topology,
            around.rates,
            around.shape,
            around.budget,
            moves=MOVES,
            move_seconds=_PASSES * around.shape.weight_bytes / around.rates.weight_bandwidth,
            horizon=HORIZON_TOKENS / tokens_a_step,
            refused=self._refused,
        )

    def _begin(self, demand_LWE: Demand) -> bool:
        """Set about what is wanted; returns whether that is anything."""
        if self._wanted == self.placements:
            return False
        coming = sorted(replicas_beyond(self.placements, self._wanted))
        if not coming:
            self._put_in_force(demand_LWE, {})
            return True
        held = {
            (layer, expert): module
            for layer in {replica.layer for replica in coming}
            for expert, module in self._held(layer).items()
        }
        self._transfer = Transfer(coming, self._control.rank, held, self._fetch)
        return True

    def _end_transfer(self, transfer: Transfer, sums: list[list[int]], demand_LWE: Demand) -> None:
        self._transfer = None
        self.moves.fetch_seconds += transfer.end - transfer.begin
        self._timeline.add([Span(REPLICAS, f"fetch {len(transfer.fetched)}", -1, 0, transfer.begin, transfer.end)])
        problems = failures(transfer.replicas, sums)
        if problems:
            self.moves.replicas_refused += len(problems)
            self._refused.update(problems)
            notice(_logger, f"the placement stays as it is: {'; '.join(problems.values())}")
            return
        self.moves.replicas_fetched += len(transfer.replicas)
        self._put_in_force(demand_LWE, transfer.fetched)

    def _put_in_force(self, demand_LWE: Demand, fetched: Mapping[tuple[int, int], nn.Module]) -> None:
        self._switch(self._wanted, demand_LWE, fetched)
        self.moves.replicas_dropped += len(replicas_beyond(self._wanted, self.placements))
        self.placements = self._wanted
        self.moves.switches += 1
