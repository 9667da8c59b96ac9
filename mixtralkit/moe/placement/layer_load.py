"""One layer's load on every rank and link while replicas are added, and what each would change. Pure, no communication.

Replicas cannot be chosen by the predicted time itself. It is a maximum over ranks and over links, and a single replica
often leaves a maximum where it is: between two equal nodes the first one relieves one direction of the links, the other
is as busy as before, and a search for less time would stop although two replicas together save half. So what is to fall
is the pressure: in place of each maximum, the root of the mean square over all ranks or links. It falls whenever one of
them is relieved, the more the busier that is; and among equals what one has more weighs as much as what another has
less, so that reading an expert's weights twice is set against the rows that no longer travel. (Against the best of all
placements, squares did better than fourth powers for few ranks, and as well for many.)
Only arithmetic and square roots, which round alike on every machine: all ranks find the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from mixtralkit.dist.topology import Topology
from mixtralkit.moe.placement.cost import ExpertShape, Rates, expert_seconds
from mixtralkit.moe.placement.plan import Placement
from mixtralkit.moe.placement.routes import nearest
from mixtralkit.moe.placement.traffic import Sent, link_rows

Change = list[tuple[int, int, float]]  # of a resource: its kind, its place in `LayerLoad._busy`, seconds more or less


@dataclass(frozen=True)
class _Share:
    """What one expert brings: rows to each rank and seconds to each resource."""

    rows_W: list[float]
    busy: list[float]


class LayerLoad:
    """Seconds of all resources in one step: each rank's computing, each direction of each link.

    Rows travel as in the dispatch collective, there and back.
    """

    def __init__(
        self,
        home: Placement,
        demand_WE: Sequence[Sequence[float]],
        topology: Topology,
        rates: Rates,
        shape: ExpertShape,
    ) -> None:
        self._topology, self._rates, self._shape = topology, rates, shape
        self._demand_EW = list(zip(*demand_WE, strict=True))
        self._owners = [list(home.owners_of(expert)) for expert in range(home.num_experts)]
        counts = (home.world_size, 2 * home.world_size, 2 * topology.num_nodes)  # computing, within nodes, between them
        ends = (counts[0], sum(counts[:2]), sum(counts))
        self._kinds = tuple(slice(end - count, end) for end, count in zip(ends, counts, strict=True))
        self._kind_of = [kind for kind, count in enumerate(counts) for _ in range(count)]
        self._busy = [0.0] * ends[-1]
        self._rows_W = [0.0] * home.world_size
        self._shares = [_Share(self._rows_W, self._busy) for _ in self._owners]
        for expert, owners in enumerate(self._owners):
            self._put(expert, self._share(expert, owners))

    @property
    def time(self) -> float:
        """The predicted seconds of a step, without latencies."""
        return sum(max(self._busy[kind]) for kind in self._kinds)

    @property
    def pressure(self) -> float:
        """What replicas are to lower, in seconds."""
        return self.pressure_after([])

    def candidates(self) -> list[tuple[int, int]]:
        """Every expert that has rows, with every rank that does not hold it."""
        with_rows = [expert for expert, demand_W in enumerate(self._demand_EW) if any(demand_W)]
        ranks = range(len(self._rows_W))
        return [(expert, rank) for expert in with_rows for rank in ranks if rank not in self._owners[expert]]

    def change(self, expert: int, rank: int) -> Change:
        """What a replica of `expert` on `rank` does to the resources."""
        share = self._share(expert, [*self._owners[expert], rank])
        pairs = enumerate(zip(self._shares[expert].busy, share.busy, strict=True))
        return [(self._kind_of[place], place, new - old) for place, (old, new) in pairs if new != old]

    def pressure_after(self, change: Change) -> float:
        """The pressure if `change` were made."""
        sums = list(self._sums)
        for kind, place, seconds in change:
            after = self._busy[place] + seconds
            sums[kind] += after * after - self._squares[place]
        pairs = zip(sums, self._kinds, strict=True)
        # Rounding may leave less than nothing where nothing is left.
        return sum(sqrt(max(of_kind, 0.0) / (kind.stop - kind.start)) for of_kind, kind in pairs)

    def add(self, expert: int, rank: int) -> None:
        """Have a replica of `expert` on `rank`."""
        self._owners[expert] = sorted([*self._owners[expert], rank])
        self._put(expert, self._share(expert, self._owners[expert]))

    def _put(self, expert: int, share: _Share) -> None:
        before = self._shares[expert]
        self._busy = _replaced(self._busy, before.busy, share.busy)
        self._rows_W = _replaced(self._rows_W, before.rows_W, share.rows_W)
        self._shares[expert] = share
        self._squares = [seconds * seconds for seconds in self._busy]
        self._sums = [sum(self._squares[kind]) for kind in self._kinds]

    def _share(self, expert: int, owners: Sequence[int]) -> _Share:
        demand_W, rows_W = self._demand_EW[expert], [0.0] * len(self._rows_W)
        sent: list[Sent] = []
        for rank, owner in self._routes(expert, owners):
            rows_W[owner] += demand_W[rank]
            if owner != rank:
                sent.append((rank, owner, demand_W[rank]))
        within, between = link_rows(sent, self._topology)
        there_and_back = 2 * self._shape.row_bytes
        seconds_within = there_and_back / self._rates.node_bandwidth
        seconds_between = there_and_back / self._rates.network_bandwidth
        busy = [expert_seconds(rows, self._rates, self._shape) for rows in rows_W]
        busy += [rows * seconds_within for rows in within]
        busy += [rows * seconds_between for rows in between]
        return _Share(rows_W, busy)

    def _routes(self, expert: int, owners: Sequence[int]) -> list[tuple[int, int]]:
        """(rank, owner) as `nearest_owners` has them, for one expert while the other experts' rows stay as they are."""
        demand_W = self._demand_EW[expert]
        rows_W = [rows - own for rows, own in zip(self._rows_W, self._shares[expert].rows_W, strict=True)]
        routes, undecided = [], []
        for rank in range(len(rows_W)):
            near = nearest(owners, self._topology, rank)
            if len(near) > 1:
                undecided.append((-demand_W[rank], rank, near))
                continue
            routes.append((rank, near[0]))
            rows_W[near[0]] += demand_W[rank]
        for _, rank, near in sorted(undecided):
            owner = min(near, key=lambda rank: (rows_W[rank], rank))
            routes.append((rank, owner))
            rows_W[owner] += demand_W[rank]
        return routes


def _replaced(total: Sequence[float], before: Sequence[float], after: Sequence[float]) -> list[float]:
    return [whole - old + new for whole, old, new in zip(total, before, after, strict=True)]
