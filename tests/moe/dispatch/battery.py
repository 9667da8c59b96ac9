"""The one battery that every dispatch goes through: its cases, what a rank does in each, and the right answers.

The right answers come from loops in float64 over tokens and experts, in one process, without any sorting or exchange.
An expert here multiplies by its own matrix, which is enough to tell experts, rows and orders apart.
"""

from dataclasses import dataclass
from typing import Any

import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology
from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.dispatch.collective_mover import CollectiveMover
from mixtralkit.moe.dispatch.cuda_peer import CudaPeerDispatch
from mixtralkit.moe.dispatch.cuda_peer_exchange import CudaPeerExchange
from mixtralkit.moe.dispatch.fixed import FixedDispatch
from mixtralkit.moe.dispatch.nccl import NcclDispatch
from mixtralkit.moe.dispatch.transport import Transport
from mixtralkit.moe.placement.plan import Placement, even_split
from mixtralkit.moe.placement.routes import Routes, routes_of
from mixtralkit.moe.routing import Routing

TINY_SLOTS = "peer in tiny slots"
# The exchange between GPUs, its steps run by the CPU over shared memory. In tiny regions a call takes many exchanges;
# even steps are those of a recorded step, of as many tokens on every rank.
TINY_REGIONS, EVEN_STEPS = "peer in steps and tiny regions", "peer in even steps"
STEPS = ("peer in steps", TINY_REGIONS, EVEN_STEPS)


@dataclass(frozen=True)
class Case:
    """`tokens[r]` tokens on rank r; `one_expert` sends everything to expert 0 and, beyond top 1, its neighbours.

    `replicas` are (expert, rank) pairs beyond the even split; ranks are counted round the world. Two ranks are a node.
    """

    name: str
    num_experts: int
    top_k: int
    tokens: tuple[int, ...]
    one_expert: bool = False
    dtype: torch.dtype = torch.float32
    width: int = 12
    replicas: tuple[tuple[int, int], ...] = ()

    @property
    def world_size(self) -> int:
        """How many ranks there are."""
        return len(self.tokens)

    @property
    def placement(self) -> Placement:
        """The even split and the replicas."""
        placement = even_split(self.num_experts, self.world_size)
        for expert, rank in self.replicas:
            placement = placement.with_replica(expert, rank % self.world_size)
        return placement

    def routes(self, rank: int) -> Routes:
        """Where rows go, as `rank` knows it."""
        return routes_of(self.placement, Topology(tuple(r // 2 for r in range(self.world_size))), rank)


@dataclass(frozen=True)
class Inputs:
    """What one rank starts with. The gradient of the loss by the output is given."""

    x_TD: torch.Tensor
    routing: Routing
    grad_TD: torch.Tensor

    def on(self, device: torch.device) -> "Inputs":
        """The same on `device`."""
        routing = Routing(self.routing.expert_ids_TK.to(device), self.routing.weights_TK.to(device))
        return Inputs(self.x_TD.to(device), routing, self.grad_TD.to(device))


def cases(world_size: int) -> list[Case]:
    """Plain, empty, tiny, lopsided and odd-sized batches for a world size."""
    even = (5,) * world_size
    return [
        Case("plain", 8, 2, tuple(7 + rank for rank in range(world_size))),
        Case("top 1", 4, 1, even),
        Case("top 3 of 5 experts", 5, 3, even),
        Case("as many experts as ranks", world_size, 1, even),
        Case("fewer experts than ranks", max(1, world_size - 1), 1, even),
        Case("far fewer experts than ranks", 2, 2, tuple(3 * rank for rank in range(world_size))),
        Case("a hot expert everywhere", 8, 2, even, replicas=tuple((3, rank) for rank in range(world_size))),
        Case("replicas here and there", 5, 3, even, replicas=((0, 1), (4, 2), (4, 0), (2, -1))),
        Case(
            "every expert everywhere", 3, 2, even, replicas=tuple((e, r) for e in range(3) for r in range(world_size))
        ),
        Case("no tokens anywhere", 4, 2, (0,) * world_size),
        Case("one token in all", 4, 2, (1,) + (0,) * (world_size - 1)),
        Case("all rows to one expert", 8, 1, even, one_expert=True),
        Case("an idle rank", 8, 2, (*even[1:], 0)),
        Case("bfloat16", 8, 2, even, dtype=torch.bfloat16),
        Case("one token of odd width", 4, 2, (1,) + (0,) * (world_size - 1), dtype=torch.bfloat16, width=7),
        Case("long and short", 8, 2, (20,) + (3,) * (world_size - 1)),
        Case("one floods the others", 8, 2, (0,) * (world_size - 1) + (150,)),
        Case("all flood one", 8, 1, (60,) * world_size, one_expert=True),
        Case("all flood all", 8, 3, (80,) * world_size, dtype=torch.bfloat16),
    ]


def inputs(case: Case, rank: int) -> Inputs:
    """The same for a case and rank wherever it is called, so that the parent knows what all ranks hold."""
    generator = torch.Generator().manual_seed(1000 * case.top_k + 10 * case.num_experts + rank)
    tokens = case.tokens[rank]
    if case.one_expert:
        ids = torch.arange(case.top_k).expand(tokens, -1).contiguous()
    else:
        ids = torch.rand(tokens, case.num_experts, generator=generator).argsort(dim=1)[:, : case.top_k].contiguous()
    weights = torch.softmax(torch.randn(tokens, case.top_k, generator=generator), dim=1)
    x = torch.randn(tokens, case.width, generator=generator).to(case.dtype)
    return Inputs(x, Routing(ids, weights), torch.randn(tokens, case.width, generator=generator).to(case.dtype))


def expert_matrix(case: Case, expert: int) -> torch.Tensor:
    """The matrix that an expert multiplies a row by."""
    generator = torch.Generator().manual_seed(77 + expert)
    return torch.randn(case.width, case.width, generator=generator).to(case.dtype) / case.width**0.5


def _dispatch(name: str, collectives: Collectives, case: Case) -> Dispatch:
    """The dispatch `name`; in tiny slots a message of more than a few rows goes round them, waiting for its reader.

    The rows of nccl are carried by gloo here; test_nccl_exchange.py has those that our communicator carries.
    """
    if name == NcclDispatch.name:
        return NcclDispatch(CollectiveMover(collectives), case.routes(collectives.rank), collectives.device)
    if name == FixedDispatch.name:
        return FixedDispatch(CollectiveMover(collectives), case.routes(collectives.rank), collectives.device)
    if name in STEPS:
        exchange = CudaPeerExchange(collectives, case.num_experts, 512 if name == TINY_REGIONS else 64 << 10)
        dispatch = CudaPeerDispatch(exchange, case.routes(collectives.rank))
        return dispatch.recordable if name == EVEN_STEPS else dispatch
    name, slot_bytes = ("peer", 512) if name == TINY_SLOTS else (name, None)
    return Transport(collectives, case.num_experts, slot_bytes).dispatch(name, case.routes(collectives.rank))


def run_case(collectives: Collectives, dispatch: Dispatch, case: Case) -> dict[str, Any]:
    """What a rank sees of one case: rows, counts, identity, expert results and gradients.

    Rows behind those that are counted are left out of what is seen; their results are NaN.
    """
    device = collectives.device
    given = inputs(case, collectives.rank).on(device)
    x = given.x_TD.clone().requires_grad_()
    weights = given.routing.weights_TK.clone().requires_grad_()
    routing = Routing(given.routing.expert_ids_TK, weights)
    rows, counts, handle = dispatch.dispatch(x, routing)
    held = case.placement.experts_of(collectives.rank)
    matrices = [expert_matrix(case, expert).to(device).requires_grad_() for expert in held]
    counts = counts.tolist() if isinstance(counts, torch.Tensor) else list(counts)
    parts = rows[: sum(counts)].split(counts)
    results = torch.cat([part @ matrix for part, matrix in zip(parts, matrices, strict=True)])
    results = torch.cat((results, results.new_full((len(rows) - sum(counts), case.width), torch.nan)))
    # A second dispatch is in flight while the first has not been combined.
    other_rows, _, other_handle = dispatch.dispatch(x.detach() * 2, given.routing)
    out = dispatch.combine(results, handle)
    identity = dispatch.combine(other_rows, other_handle)
    torch.autograd.backward(out, given.grad_TD)
    return {
        "rows": rows.detach()[: sum(counts)].cpu(),
        "counts": counts,
        "out": out.detach().cpu(),
        "twice": identity.detach().cpu(),
        "grad_x": _seen(x.grad),
        "grad_weights": _seen(weights.grad),
        "grad_matrices": [_seen(matrix.grad) for matrix in matrices],
    }


def _seen(grad: torch.Tensor | None) -> torch.Tensor | None:
    return None if grad is None else grad.cpu()


def names_of(case: Case, names: list[str]) -> list[str]:
    """Those of `names` that a case is for: what can be recorded wants as many tokens on every rank."""
    return [name for name in names if name not in (FixedDispatch.name, EVEN_STEPS) or len(set(case.tokens)) == 1]


def run_cases(collectives: Collectives, names: list[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """All cases of all the named dispatches on this rank; memory that nobody has written reads as NaN."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    return {
        (name, case.name): run_case(collectives, _dispatch(name, collectives, case), case)
        for name in names
        for case in cases(collectives.size)
        if name in names_of(case, names)
    }


def expected_rows(case: Case, rank: int) -> tuple[list[torch.Tensor], list[int]]:
    """The rows for this rank's experts by loops: expert, then source rank, then token.

    Where several ranks hold an expert, `nearest_owners` says whose rows come here; it has tests of its own.
    """
    owner_WE = case.routes(rank).owner_WE
    rows: list[torch.Tensor] = []
    counts: list[int] = []
    for expert in case.placement.experts_of(rank):
        before = len(rows)
        for source in (source for source in range(case.world_size) if owner_WE[source][expert] == rank):
            given = inputs(case, source)
            rows += [given.x_TD[t] for t, k in (given.routing.expert_ids_TK == expert).nonzero().tolist()]
        counts.append(len(rows) - before)
    return rows, counts


def expected_results(case: Case) -> list[dict[str, Any]]:
    """Output and gradients of every rank by loops over its tokens in float64; each replica has its own gradient."""
    owner_WE = case.routes(0).owner_WE
    matrices = {
        (owner, expert): expert_matrix(case, expert).double().requires_grad_()
        for owner in range(case.world_size)
        for expert in case.placement.experts_of(owner)
    }
    answers: list[dict[str, Any]] = []
    for rank in range(case.world_size):
        given = inputs(case, rank)
        x = given.x_TD.double().requires_grad_()
        weights = given.routing.weights_TK.double().requires_grad_()
        out = torch.zeros_like(x)
        for t, k in torch.ones_like(given.routing.expert_ids_TK).nonzero().tolist():
            expert = int(given.routing.expert_ids_TK[t, k])
            row = weights[t, k] * (x[t] @ matrices[owner_WE[rank][expert], expert])
            out = out.index_add(0, torch.tensor([t]), row[None])
        if out.requires_grad:
            torch.autograd.backward(out, given.grad_TD.double())
        answers.append({"out": out.detach(), "grad_x": x.grad, "grad_weights": weights.grad})
    for rank, answer in enumerate(answers):
        answer["grad_matrices"] = [matrices[rank, expert].grad for expert in case.placement.experts_of(rank)]
    return answers
