"""Measured rates: the same on all ranks, plausible, and taken without a hang on nodes of any sizes."""

import math
from dataclasses import asdict
from itertools import product
from typing import Any

import pytest
import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology
from mixtralkit.moe import link_rates
from mixtralkit.moe.link_rates import Exchange, exchange_by, exchange_over, measure_rates
from mixtralkit.moe.placement.cost import Rates
from mixtralkit.moe.placement.plan import Placement
from tests.dispatches import PEER
from tests.random_model import TINY, random_model
from tests.ranks import run_ranks
from tests.steered_model import Setup, Steered, even_homes, shape_of_experts, steer

HOT = Placement(5, ((0, 1, 2), (0, 3, 4)))  # the first expert of either rank is on the other as well
IDLE = Placement(5, ((0, 1, 2, 3, 4), ()))
WAYS = ["all-to-all", "collective", "hierarchical", *PEER]  # and peer, where there is one
World = tuple[tuple[int, ...], Placement | None]  # the node of each rank, and what is where, None for the even split


def _exchange(steered: Steered, collectives: Collectives, way: str) -> Exchange:
    layer = steered.arrangement.layers[0]
    if way == "all-to-all":
        return exchange_over(collectives)
    return exchange_by(steered.arrangement.dispatch_for(layer.routes, 0), layer.routes, TINY.dim)


def _steered(collectives: Collectives, way: str, nodes: tuple[int, ...], placement: Placement | None) -> Steered:
    homes = even_homes(TINY, collectives.size) if placement is None else (placement,) * TINY.num_layers
    dispatch = "collective" if way == "all-to-all" else way
    return steer(random_model(TINY), collectives, Setup((dispatch,), placements=homes, topology=Topology(nodes)))


def _rates(collectives: Collectives, worlds: list[World]) -> list[Rates]:
    """Of each world, by each way in turn."""
    link_rates.LONG_ENOUGH = 1e-4  # the first exchange of some size will do
    found = []
    for (nodes, placement), way in product(worlds, WAYS):
        steered = _steered(collectives, way, nodes, placement)
        exchange, experts = _exchange(steered, collectives, way), steered.arrangement.layers[0].experts
        found.append(measure_rates(exchange, collectives, Topology(nodes), [experts] * 2, shape_of_experts(TINY)))
    return found


def test_two_ranks_of_a_node_have_no_network() -> None:
    """Nor does a rank without experts disturb: of it the others' rates hold."""
    first, second = run_ranks(2, _rates, [((0, 0), placement) for placement in (None, HOT, IDLE)])
    assert first == second
    assert len(first) == 3 * len(WAYS)
    for rates in first:
        assert (rates.network_bandwidth, rates.network_latency) == (math.inf, 0.0)
        finite = {name: value for name, value in asdict(rates).items() if not name.startswith("network")}
        assert all(0 < value < math.inf for value in finite.values()), finite
        assert rates.node_bandwidth < 1e12  # not as if nothing had been sent


def test_nodes_may_differ_in_size() -> None:
    """A rank alone on its node takes part while others measure theirs, though it has nothing to send."""
    first, *others = run_ranks(3, _rates, [((0, 0, 1), None), ((0, 1, 1), None)])
    assert others == [first] * 2
    for rates in map(asdict, first):
        assert all(0 < value < math.inf for value in rates.values()), rates


def test_where_every_rank_is_a_node_there_is_no_link_within() -> None:
    first, second = run_ranks(2, _rates, [((0, 1), None)])
    assert first == second
    for rates in map(asdict, first):
        assert (rates.pop("node_bandwidth"), rates.pop("node_latency")) == (math.inf, 0.0)
        assert all(0 < value < math.inf for value in rates.values()), rates


def _bytes_sent(collectives: Collectives) -> list[tuple[int, int]]:
    """Of each way, by an exchange of 4096 bytes with the other rank, and by one of 64."""
    sent = []
    for way in WAYS:
        exchange = _exchange(_steered(collectives, way, (0, 0), HOT), collectives, way)
        counts = [collectives.bytes_sent]
        for nbytes in (4096, 64):
            exchange([1 - collectives.rank], nbytes)
            counts.append(collectives.bytes_sent)
        sent.append((counts[1] - counts[0], counts[2] - counts[1]))
    return sent


def test_what_is_timed_is_sent() -> None:
    """Also where the first expert of the other rank has a replica here, to which rows would go."""
    for rank in run_ranks(2, _bytes_sent):
        for many, few in rank:
            assert 4096 <= many < 2 * 4096
            assert few < 512


def test_a_long_exchange_is_not_repeated_in_larger_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, by a clock in which 64 KiB take a second each time: 2 of these, and 20 of a few bytes, are enough."""
    now = [0.0]
    asked: list[int] = []

    def exchange(peers: Any, nbytes: int) -> None:
        asked.append(nbytes)
        now[0] += 0.5 + nbytes / 2**17

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    alone = Collectives(None, torch.device("cpu"))
    bandwidth, latency = link_rates._link(exchange, alone, [1])
    assert bandwidth == pytest.approx(2**17, rel=0.01)
    assert latency == pytest.approx(0.5, rel=0.01)
    few, *others = asked
    assert others == [few] * 19 + [2**16] * 2


def test_a_latency_taken_in_a_bad_moment_does_not_make_a_link_infinitely_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every exchange takes 50 ms, whatever its size."""
    now = [0.0]

    def exchange(peers: Any, nbytes: int) -> None:
        now[0] += 0.05

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    bandwidth, latency = link_rates._link(exchange, Collectives(None, torch.device("cpu")), [1])
    assert (bandwidth, latency) == pytest.approx((2**16 / 0.025, 0.05))
