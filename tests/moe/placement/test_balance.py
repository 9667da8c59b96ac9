"""The rows that ranks compute and that travel, against counting them by hand."""

import pytest

from mixtralkit.dist.topology import Topology
from mixtralkit.moe.placement.balance import balance_of, busiest_over_mean
from mixtralkit.moe.placement.plan import Placement, even_split

TWO_NODES = Topology((0, 0, 1, 1))
DEMAND_WE = ((8, 1, 0, 0), (4, 2, 1, 0), (2, 0, 3, 0), (1, 0, 0, 5))


def test_without_replicas_every_row_goes_to_its_one_owner() -> None:
    balance = balance_of(DEMAND_WE, even_split(4, 4), TWO_NODES)
    assert balance.rows_W == pytest.approx((15, 3, 4, 5))
    assert balance.leaving_rank == 27 - (8 + 2 + 3 + 5)
    assert balance.leaving_node == 2 + 1 + 1  # expert 0 from node 1, expert 2 from rank 1


def test_a_replica_on_the_other_node_keeps_rows_there() -> None:
    balance = balance_of(DEMAND_WE, even_split(4, 4).with_replica(0, 3), TWO_NODES)
    assert balance.rows_W == pytest.approx((12, 3, 4, 8))
    assert balance.leaving_rank == 9 - 1
    assert balance.leaving_node == 1


def test_with_everything_everywhere_nothing_travels() -> None:
    balance = balance_of(DEMAND_WE, Placement(4, ((0, 1, 2, 3),) * 4), TWO_NODES)
    assert balance.rows_W == pytest.approx((9, 7, 5, 6))
    assert (balance.leaving_rank, balance.leaving_node) == (0, 0)


@pytest.mark.parametrize(("rows", "expected"), [((3, 3, 3), 1.0), ((6, 0, 0), 3.0), ((0, 0), 1.0), ((1.5, 0.5), 1.5)])
def test_the_busiest_over_the_mean(rows: tuple[float, ...], expected: float) -> None:
    assert busiest_over_mean(rows) == expected
