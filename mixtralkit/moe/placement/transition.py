"""From the replicas that there are to better ones, a few at a time, while the load changes. Pure functions."""

import math
from collections import Counter
from collections.abc import Collection, Sequence

from mixtralkit.dist.topology import Topology
from mixtralkit.moe.placement.cost import ExpertShape, Rates
from mixtralkit.moe.placement.plan import Placement
from mixtralkit.moe.placement.rebalance import Demand, worthy_replicas
from mixtralkit.moe.placement.replica import Replica, replicas_beyond, with_replicas


def next_placements(
    demand_LWE: Demand,
    current: Sequence[Placement],
    homes: Sequence[Placement],
    topology: Topology,
    rates: Rates,
    shape: ExpertShape,
    budget: int,
    *,
    moves: int,
    move_seconds: float,
    horizon: float,
    refused: Collection[Replica] = (),
) -> tuple[Placement, ...]:
    """What to turn `current` into now that a step has `demand_LWE` rows: towards `rebalance`, with nothing in vain.

    A replica of `current` stays as long as it saves anything and nothing better needs its place. A new one has to save
    more in `horizon` steps than the `move_seconds` that fetching it takes, and must beat a present one by as much. At
    most `moves` come at a time. The budget holds for the replicas of before and after together: where a new one is to
    take an old one's place, the old one goes now, and the new one comes with the next call. Those `refused` never come,
    and leave their places to others.
    """
    held = replicas_beyond(homes, current)

    def price(replica: Replica) -> float:
        if replica in refused:
            return math.inf
        return 0.0 if replica in held else move_seconds / horizon

    wanted = worthy_replicas(demand_LWE, homes, topology, rates, shape, budget, price)
    return with_replicas(homes, _nearer(held, wanted, budget // shape.weight_bytes, moves))


def _nearer(held: Collection[Replica], wanted: Sequence[Replica], places: int, moves: int) -> list[Replica]:
    """What to hold next on the way from `held` to `wanted`, which is in the order of worth; a rank has `places`."""
    occupied, sought = (Counter(replica.rank for replica in replicas) for replicas in (held, wanted))
    after = [replica for replica in wanted if replica in held]
    promised = Counter(replica.rank for replica in after)
    for replica in [replica for replica in wanted if replica not in held][:moves]:
        promised[replica.rank] += 1
        if occupied[replica.rank] < places:
            occupied[replica.rank] += 1
            after.append(replica)
    for replica in sorted(set(held) - set(wanted)):
        # A rank that wants no more than it may hold has no use for these; on others they wait until they are replaced.
        if sought[replica.rank] == places and promised[replica.rank] < places:
            promised[replica.rank] += 1
            after.append(replica)
    return after
