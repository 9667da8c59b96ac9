"""Replicas where they save most, within a memory budget, for all layers at once. Pure functions.

A packing in the manner of DeepSeek's EPLB, with predicted seconds in the place of rows. Again and again the replica
that saves most a step is added; all cost the same memory. Nodes come before ranks by themselves: what comes over the
slow network costs most, and the first copy on a node spares all its ranks that.

Plain Python in one order, with ties to the lowest layer, expert and rank: all ranks find the same.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from heapq import heapify, heappop, heappush

from mixtralkit.dist.topology import Topology
from mixtralkit.moe.placement.cost import ExpertShape, Rates, layer_time
from mixtralkit.moe.placement.layer_load import LayerLoad
from mixtralkit.moe.placement.layer_search import LayerSearch
from mixtralkit.moe.placement.plan import Placement
from mixtralkit.moe.placement.replica import Replica, with_replicas

Demand = Sequence[Sequence[Sequence[float]]]  # [layer][rank][expert]: rows of one step, or their average

_LEAST = 1e-12  # seconds a step: smaller savings are rounding


def rebalance(
    demand_LWE: Demand,
    homes: Sequence[Placement],
    topology: Topology,
    rates: Rates,
    shape: ExpertShape,
    budget: int,
) -> tuple[Placement, ...]:
    """`homes`, one a layer, with the replicas that make a step of `demand_LWE` fast.

    A rank spends at most `budget` bytes on replicas, over all layers; those that `homes` has do not count. No layer is
    predicted to take longer than at home.
    """
    return with_replicas(homes, worthy_replicas(demand_LWE, homes, topology, rates, shape, budget, lambda _: 0.0))


def worthy_replicas(
    demand_LWE: Demand,
    homes: Sequence[Placement],
    topology: Topology,
    rates: Rates,
    shape: ExpertShape,
    budget: int,
    price: Callable[[Replica], float],
) -> list[Replica]:
    """The replicas of `rebalance` if each has to save more than its `price` in seconds a step, roughly best first."""
    searches = [
        LayerSearch(layer, LayerLoad(home, demand_WE, topology, rates, shape), price)
        for layer, (home, demand_WE) in enumerate(zip(homes, demand_LWE, strict=True))
    ]

    def seconds(layer: int, replicas: Sequence[Replica]) -> float:
        placement = with_replicas(homes, replicas)[layer]
        return layer_time(demand_LWE[layer], placement, topology, rates, shape).total + sum(map(price, replicas))

    places = budget // shape.weight_bytes
    added = _add_best(searches, [places] * len(topology.node_of_rank))
    order = {replica: place for place, replica in enumerate(added)}
    return sorted(_settled(searches, places, seconds), key=lambda replica: (order.get(replica, len(order)), replica))


def _add_best(searches: Sequence[LayerSearch], places_W: list[int]) -> list[Replica]:
    """Add what is worth most of all layers, until there is nothing, or no place on its rank; returns it in that order.

    Only the layer that changed looks at its candidates again.
    """
    heap = [best for search in searches if (best := search.best())]
    heapify(heap)
    added = []
    while heap and heap[0][0] < -_LEAST:
        _, replica = heappop(heap)
        search = searches[replica.layer]
        if places_W[replica.rank] > 0:
            places_W[replica.rank] -= 1
            search.add(replica)
            added.append(replica)
        else:
            search.refuse(replica)
        if best := search.best():
            heappush(heap, best)
    return added


def _settled(
    searches: Sequence[LayerSearch], places: int, seconds: Callable[[int, Sequence[Replica]], float]
) -> list[Replica]:
    """For each layer what its search found, or every expert on every rank, or nothing: whatever takes least `seconds`.

    The search looks at one expert's routes at a time and does not see that a layer may do without messages.
    """
    settled = [search.outcome() for search in searches]
    occupied = Counter(replica.rank for replicas in settled for replica in replicas)
    for layer, search in enumerate(searches):
        found = settled[layer]
        others = [replica for replica in search.candidates if replica not in found]
        filled = occupied + Counter(replica.rank for replica in others)
        everywhere = [[*found, *others]] if all(count <= places for count in filled.values()) else []
        settled[layer] = min([found, *everywhere, []], key=partial(seconds, layer))
        occupied.update(replica.rank for replica in settled[layer] if replica not in found)
    return [replica for replicas in settled for replica in replicas]
