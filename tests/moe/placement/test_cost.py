"""The cost model against times worked out by hand, with rates that make them whole numbers."""

from dataclasses import replace

import pytest

from mixtralkit.dist.topology import Topology
from mixtralkit.moe.dispatch.token_gather import FIRST_TOKENS
from mixtralkit.moe.placement.cost import ExpertShape, Rates, StepTime, expert_seconds, layer_time, overlapped_time
from mixtralkit.moe.placement.plan import Placement, even_split
from mixtralkit.moe.placement.traffic import ROOM

# A row takes 1 s within a node, 10 s between nodes and 2 s to compute; to read an expert takes 5 s.
RATES = Rates(
    node_bandwidth=100, network_bandwidth=10, node_latency=0.5, network_latency=3, compute=30, weight_bandwidth=10
)
SHAPE = ExpertShape(width=2, hidden=5, weight_bytes=50, row_bytes=100, top_k=2)

TWO_NODES = Topology((0, 0, 1, 1))
SPREAD = even_split(4, 4)
# Rank 0 has rows for all; rank 3 only for expert 2, on its own node.
DEMAND = ((1, 2, 3, 4), (0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 6, 0))


def test_rates_of_the_example() -> None:
    assert SHAPE.flops_a_row / RATES.compute == 2
    assert SHAPE.weight_bytes / RATES.weight_bandwidth == 5


@pytest.mark.parametrize(("rows", "seconds"), [(0, 0), (0.5, 2.5), (1, 5), (2, 5), (3, 6), (10, 20)])
def test_an_expert_is_read_once_or_its_rows_take_longer(rows: float, seconds: float) -> None:
    """Half a row, on average, reads it in half of the steps."""
    assert expert_seconds(rows, RATES, SHAPE) == seconds


def test_collective_by_hand() -> None:
    """Rank 0 sends 2 rows to rank 1 (2 s) and 7 to the other node (70 s); rank 3 sends 6 to rank 2 (6 s, the most).

    Rank 2 computes 9 rows of expert 2: 18 s. Two messages go, one comes back, over the network.
    """
    time = layer_time(DEMAND, SPREAD, TWO_NODES, RATES, SHAPE)
    assert time == StepTime(dispatch=76 + 2 * 3, experts=18, combine=76 + 3)
    assert time.total == 179


def test_ranks_of_a_node_share_its_link_and_both_directions_are_free() -> None:
    """Ranks 0 and 1 send 3 rows each to the other node, which sends 5 back: 6 rows out of node 0 are the most."""
    demand = ((0, 0, 3, 0), (0, 0, 0, 3), (5, 0, 0, 0), (0, 0, 0, 0))
    assert layer_time(demand, SPREAD, TWO_NODES, RATES, SHAPE).combine == 60 + 3


def test_peer_by_hand() -> None:
    """One node: rank 0 has 5 tokens with 2 rows each; of 9 rows for rank 1 no more than 5 travel."""
    demand = ((1, 3, 3, 3), (0, 0, 0, 0))
    placement = Placement(4, ((0,), (1, 2, 3)))
    one_node = Topology((0, 0))
    assert layer_time(demand, placement, one_node, RATES, SHAPE, "peer") == StepTime(5.5, 18, 5.5)
    assert layer_time(demand, placement, one_node, RATES, SHAPE) == StepTime(9 + 1, 18, 9.5)


def test_peer_between_what_the_user_takes_for_nodes() -> None:
    """All ranks may be on one host all the same: what crosses goes at the network's rate. Rank 0 sends 5 tokens."""
    demand = ((1, 3, 3, 3), (0, 0, 0, 0))
    placement = Placement(4, ((0,), (1, 2, 3)))
    assert layer_time(demand, placement, Topology((0, 1)), RATES, SHAPE, "peer") == StepTime(53, 18, 53)


def test_all_gather_by_hand() -> None:
    """Ranks 0 and 3 have 5 and 3 tokens, which all others get. Every rank sends its head and room for 8 to each other:
    9 rows within its node, 36 out of each node. Results come back for the tokens there are: 5 from rank 1 within its
    node, and 10 into node 0 from the other's two ranks.
    """
    there, back = 9 * 1 + 36 * 10, 5 * 1 + 10 * 10
    assert layer_time(DEMAND, SPREAD, TWO_NODES, RATES, SHAPE, "all_gather") == StepTime(there + 3, 18, back + 3)


def test_hierarchical_by_hand() -> None:
    """Of rank 0's rows 7 of 10 go to the other node, so of its 5 tokens 5 * (1 - 0.3^2) = 4.55 do, to rank 2, which has
    as much to move, gets 6 rows of rank 3 and sends it 4. Back go the 7 rows, or 4.55 sums of float32.
    """
    there = 4.55 * 10 + (4.55 + 6)
    time = layer_time(DEMAND, SPREAD, TWO_NODES, RATES, SHAPE, "hierarchical")
    assert time.dispatch == pytest.approx(there + 3 * 3)
    assert time.combine == pytest.approx(70 + (4.55 + 6) + 2 * 3)
    summed = layer_time(DEMAND, SPREAD, TWO_NODES, RATES, replace(SHAPE, width=25), "hierarchical")
    assert summed.combine == pytest.approx(there + 2 * 3)


def test_the_room_of_all_gathers_first_message() -> None:
    """Is the one that the dispatch has."""
    assert ROOM == FIRST_TOKENS + 1


@pytest.mark.parametrize("dispatch", ["collective", "all_gather"])
def test_nothing_travels_where_every_rank_holds_everything(dispatch: str) -> None:
    everywhere = Placement(4, ((0, 1, 2, 3),) * 4)
    time = layer_time(DEMAND, everywhere, TWO_NODES, RATES, SHAPE, dispatch)
    assert time == StepTime(dispatch=0, experts=5 + 5 + 6 + 8, combine=0)


def test_one_rank_alone_only_computes() -> None:
    assert layer_time(((1, 4),), even_split(2, 1), Topology((0,)), RATES, SHAPE, "local") == StepTime(0, 13, 0)


def test_one_chunk_is_no_overlap() -> None:
    arguments = (DEMAND, SPREAD, TWO_NODES, RATES, SHAPE)
    assert overlapped_time(*arguments, chunks=1) == layer_time(*arguments).total


def test_overlap_by_hand() -> None:
    """Two parts of 8 rows, each 8.5 s there, 16 s to compute and 8.5 s back (latency 0.5 s each, 1 s there).

    Dispatched at 9 and 18; computed 9 to 25 and 25 to 41; the first comes back 25 to 33.5, the second 41 to 49.5.
    """
    demand, placement, one_node = ((0, 16), (0, 0)), Placement(2, ((0,), (1,))), Topology((0, 0))
    assert layer_time(demand, placement, one_node, RATES, SHAPE).total == 17 + 32 + 16.5
    assert overlapped_time(demand, placement, one_node, RATES, SHAPE, chunks=2) == 49.5


def test_overlap_that_waits_for_the_link() -> None:
    """Two parts of one row over the network: 16 s there, 5 s to read and compute, 13 s back.

    Dispatched at 16 and 32; computed by 21 and 37; back from 32 to 45 and from 45 to 58. Both weigh on the same link.
    """
    demand, placement, two_nodes = ((0, 2), (0, 0)), Placement(2, ((0,), (1,))), Topology((0, 1))
    assert layer_time(demand, placement, two_nodes, RATES, SHAPE).total == 26 + 5 + 23
    assert overlapped_time(demand, placement, two_nodes, RATES, SHAPE, chunks=2) == 58
