"""The hierarchical dispatch on nodes of all kinds, the bytes that it sends between them, and its faults.

The battery has it on nodes of two ranks. Here experts multiply by a vector of their own, so that a row's result has the
same bits wherever it is computed, and the local dispatch of one rank with all experts is the right answer, bit for bit.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology
from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.dispatch.hierarchical import HierarchicalDispatch
from mixtralkit.moe.dispatch.local import LocalDispatch
from mixtralkit.moe.dispatch.transport import Transport
from mixtralkit.moe.placement.plan import Placement, even_split
from mixtralkit.moe.placement.routes import routes_of
from mixtralkit.moe.routing import Routing
from tests.dist.processes import KILLED, PATIENCE, Run, run, torchrun
from tests.ranks import run_ranks

WIDTH, RANKS = 7, 6
NODES = {
    "one node": (0, 0, 0, 0, 0, 0),
    "two nodes": (0, 0, 0, 1, 1, 1),
    "three nodes": (0, 0, 1, 1, 2, 2),
    "ranks numbered across": (0, 1, 0, 1, 2, 2),
    "unequal nodes": (0, 0, 0, 1, 1, 2),
    "a rank alone": (0, 1, 1, 1, 1, 1),
    "nodes of one rank": (0, 1, 2, 3, 4, 5),
}


@dataclass(frozen=True)
class Case:
    """Tokens of the ranks, and further owners of experts beyond the even split."""

    num_experts: int
    top_k: int
    dtype: torch.dtype = torch.float32
    tokens: tuple[int, ...] = (3, 5, 0, 9, 1, 4)
    replicas: tuple[tuple[int, int], ...] = ()

    @property
    def placement(self) -> Placement:
        """The even split and the replicas."""
        placement = even_split(self.num_experts, RANKS)
        for expert, rank in self.replicas:
            placement = placement.with_replica(expert, rank)
        return placement


CASES = {
    "top 1": Case(8, 1),
    "top 2": Case(8, 2),
    "top 3": Case(8, 3),
    "top 4": Case(8, 4),
    "bfloat16": Case(8, 2, torch.bfloat16),
    "float16": Case(9, 3, torch.float16),
    "float64": Case(8, 2, torch.float64),
    "replicas": Case(8, 2, replicas=((0, 3), (0, 5), (7, 0), (4, 1), (4, 5))),
    "a hot expert everywhere": Case(8, 4, replicas=tuple((3, rank) for rank in range(RANKS))),
    "fewer experts than ranks": Case(4, 2),
    "no tokens": Case(8, 2, tokens=(0,) * RANKS),
    "one token": Case(8, 2, tokens=(0, 0, 0, 0, 1, 0)),
    "many on one rank": Case(8, 2, tokens=(0, 0, 70, 0, 0, 0)),
}
# Every case on some nodes, and some cases on every kind of nodes.
RUNS = [(nodes, name) for nodes in NODES for name in CASES if nodes == "unequal nodes" or name in ("top 2", "replicas")]


@dataclass(frozen=True)
class Inputs:
    """What a rank starts with."""

    x_TD: torch.Tensor
    routing: Routing
    grad_TD: torch.Tensor


def _inputs(case: Case, rank: int) -> Inputs:
    """The same wherever it is called."""
    generator, tokens = torch.Generator().manual_seed(rank), case.tokens[rank]
    ids_TK = torch.rand(tokens, case.num_experts, generator=generator).argsort(1)[:, : case.top_k].contiguous()
    weights_TK = torch.softmax(torch.randn(tokens, case.top_k, generator=generator), 1)
    x_TD, grad_TD = (torch.randn(tokens, WIDTH, generator=generator).to(case.dtype) for _ in range(2))
    return Inputs(x_TD, Routing(ids_TK, weights_TK), grad_TD)


def _factors(expert: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(expert)).to(dtype)


def _through(dispatch: Dispatch, given: Inputs, experts: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Rows, result and gradients of a rank that holds `experts`; a second call is under way during the first."""
    x_TD, weights_TK = given.x_TD.clone().requires_grad_(), given.routing.weights_TK.clone().requires_grad_()
    routing = Routing(given.routing.expert_ids_TK, weights_TK)
    rows_RD, counts, handle = dispatch.dispatch(x_TD, routing)
    other_RD, _, other = dispatch.dispatch(2 * given.x_TD, given.routing)
    assert isinstance(counts, list)
    parts = zip(rows_RD.split(counts), experts, strict=True)
    out_TD = dispatch.combine(torch.cat([part * _factors(e, x_TD.dtype) for part, e in parts]), handle)
    twice_TD = dispatch.combine(other_RD, other)
    out_TD.backward(given.grad_TD)
    assert x_TD.grad is not None
    assert weights_TK.grad is not None
    return {"rows": rows_RD.detach(), "out": out_TD.detach(), "twice": twice_TD, "x": x_TD.grad, "w": weights_TK.grad}


def _run_all(collectives: Collectives) -> dict[tuple[str, str], dict[str, torch.Tensor]]:
    """Memory that nobody has written reads as NaN."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    found = {}
    for nodes, name in RUNS:
        case = CASES[name]
        routes = routes_of(case.placement, Topology(NODES[nodes]), collectives.rank)
        dispatch = HierarchicalDispatch(collectives, routes)
        found[nodes, name] = _through(dispatch, _inputs(case, collectives.rank), routes.local_experts)
    return found


@pytest.fixture(scope="module")
def seen() -> list[dict[tuple[str, str], dict[str, torch.Tensor]]]:
    """What every rank saw in all cases on all nodes: one start of the ranks for all of them."""
    return run_ranks(RANKS, _run_all)


@pytest.mark.parametrize(("nodes", "name"), RUNS)
def test_the_bits_of_the_local_dispatch(
    nodes: str, name: str, seen: list[dict[tuple[str, str], dict[str, torch.Tensor]]]
) -> None:
    """Gradients too, but for the order in which a token's are added: a few roundings of its dtype."""
    case = CASES[name]
    for rank in range(RANKS):
        given, found = _inputs(case, rank), seen[rank][nodes, name]
        wanted = _through(LocalDispatch(case.num_experts), given, tuple(range(case.num_experts)))
        assert torch.equal(found["out"], wanted["out"])
        assert torch.equal(found["twice"], wanted["twice"])
        tolerance = 8 * torch.finfo(case.dtype).eps
        torch.testing.assert_close(found["x"], wanted["x"], rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(found["w"], wanted["w"], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(("nodes", "name"), RUNS)
def test_rows_come_in_the_promised_order(
    nodes: str, name: str, seen: list[dict[tuple[str, str], dict[str, torch.Tensor]]]
) -> None:
    """By local expert, source and token, from loops over all of them."""
    case = CASES[name]
    owner_WE = routes_of(case.placement, Topology(NODES[nodes]), 0).owner_WE
    for rank in range(RANKS):
        wanted = [
            _inputs(case, source).x_TD[token]
            for expert in case.placement.experts_of(rank)
            for source in range(RANKS)
            if owner_WE[source][expert] == rank
            for token in (_inputs(case, source).routing.expert_ids_TK == expert).any(1).nonzero().flatten().tolist()
        ]
        rows = seen[rank][nodes, name]["rows"]
        assert torch.equal(rows, torch.stack(wanted) if wanted else rows.new_empty(0, WIDTH))


def _sent(collectives: Collectives, name: str, node_of_rank: tuple[int, ...], tokens: int) -> tuple[int, torch.Tensor]:
    """Bytes that this rank sent to other nodes there and back, and the experts that it chose: 2 of 8, at random."""
    routes = routes_of(even_split(8, collectives.size), Topology(node_of_rank), collectives.rank)
    dispatch = Transport(collectives, 8).dispatch(name, routes)
    generator = torch.Generator().manual_seed(collectives.rank)
    ids_TK = torch.rand(tokens, 8, generator=generator).argsort(1)[:, :2].contiguous()
    rows, _, handle = dispatch.dispatch(torch.ones(tokens, 64), Routing(ids_TK, torch.full(ids_TK.shape, 0.5)))
    dispatch.combine(rows, handle)
    node = node_of_rank[collectives.rank]
    others = (rank for rank, at in enumerate(node_of_rank) if at != node)
    return sum(collectives.bytes_to[rank] for rank in others), ids_TK


@pytest.mark.parametrize("ranks_per_node", [2, 3, 4])
def test_one_copy_of_a_token_goes_to_a_node(ranks_per_node: int) -> None:
    """Top 2 of 8 on two nodes: the bytes are those of as many tokens as have an expert there, and one sum of results
    for each comes back; collective sends each of their rows. Counts go to every rank of the other node.
    """
    nodes, tokens, row = (0,) * ranks_per_node + (1,) * ranks_per_node, 50, 64 * 4
    placement = even_split(8, len(nodes))
    node_of_expert = [nodes[placement.owners_of(expert)[0]] for expert in range(8)]
    sent = {name: run_ranks(len(nodes), _sent, name, nodes, tokens) for name in ("hierarchical", "collective")}
    copies = rows = 0
    for rank, (_, ids_TK) in enumerate(sent["collective"]):
        far_TK = torch.tensor(node_of_expert)[ids_TK] != nodes[rank]
        copies += int(far_TK.any(1).sum())
        rows += int(far_TK.sum())
    pairs = len(nodes) * ranks_per_node
    total = {name: sum(nbytes for nbytes, _ in told) for name, told in sent.items()}
    assert total["collective"] == 2 * rows * row + pairs * 8 * (2 + 8)
    assert total["hierarchical"] == copies * (row + 2 * 8) + copies * row + pairs * 8 * (2 + 8 + 2)
    assert copies < 0.85 * rows  # 22 of 28 pairs of experts have one on a given node: 0.786 in the mean


def _faulty(mode: str, timeout: float) -> Run:
    """Three ranks under torchrun, of which rank 1 misbehaves between dispatch and combine."""
    program = str(Path(__file__).with_name("peer_program.py"))
    return run(torchrun(3, mode, "1", str(timeout), "hierarchical", program=program))


@pytest.mark.parametrize(
    ("mode", "timeout", "end"),
    [
        ("kill", 2 * PATIENCE, rf"{KILLED}; last seen at step 5"),
        ("sleep", 4, r"has not come to a collective within its time-out; last seen at step 5"),
    ],
)
def test_a_rank_that_is_gone_or_late_is_named(mode: str, timeout: float, end: str) -> None:
    """By the watchdog, as with every dispatch: nothing waits for ever."""
    ended = _faulty(mode, timeout)
    assert ended.status == 1
    assert len(ended.reports) == 1
    assert re.fullmatch(r"rank 1 on \S+ \(pid \d+\) " + end, ended.reports[0])
