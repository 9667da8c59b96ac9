"""What a step could do else, against the cost model asked for one by one."""

import pytest

from mixtralkit.dist.topology import Topology
from mixtralkit.moe.alternatives import alternatives, different, loaded
from mixtralkit.moe.placement.cost import ExpertShape, Rates, overlapped_time
from mixtralkit.moe.placement.plan import Placement, even_split

EVEN = (even_split(4, 2), even_split(4, 2))
HOT = (EVEN[0].with_replica(0, 1), EVEN[1])
TOPOLOGY = Topology((0, 1))
SHAPE = ExpertShape(width=4, hidden=8, weight_bytes=100, row_bytes=16, top_k=2)
SLOW = Rates(1e3, 1e3, 1.0, 1.0, 1e6, 1e6)
FAST = Rates(1e6, 1e6, 0.1, 0.1, 1e6, 1e6)


def test_equal_placements_are_named_once() -> None:
    assert different({"even": EVEN, "plan": list(EVEN), "rebalanced": HOT}) == {"even": EVEN, "rebalanced": HOT}


def test_what_is_loaded_can_be_gone_back_to() -> None:
    assert loaded(EVEN, HOT)
    assert loaded(HOT, HOT)
    assert not loaded(HOT, EVEN)
    assert not loaded((Placement(4, ((2, 3), (0, 1))), EVEN[1]), EVEN)


def test_each_dispatch_is_predicted_with_its_own_rates() -> None:
    """Both layers' rows are even over the ranks, so that their mean, which is what is predicted for, is each rank's."""
    demand_LWE = [[[4.0, 2.0, 1.0, 1.0]] * 2, [[2.0, 2.0, 2.0, 2.0]] * 2]
    found = alternatives(
        {"even": EVEN, "hot experts": HOT},
        {"collective": SLOW, "peer": FAST},
        (1, 2),
        TOPOLOGY,
        SHAPE,
        demand_LWE,
        (4, 4),
    )
    assert len(found) == 2 * 2 * 2
    for each in found:
        placements = {"even": EVEN, "hot experts": HOT}[each.placement]
        rates = {"collective": SLOW, "peer": FAST}[each.dispatch]
        seconds = [
            overlapped_time(demand_WE, placement, TOPOLOGY, rates, SHAPE, each.dispatch, chunks=each.parts)
            for demand_WE, placement in zip(demand_LWE, placements, strict=True)
        ]
        assert each.predicted == pytest.approx(sum(seconds))
