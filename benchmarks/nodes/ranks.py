"""What each rank of the benchmark does, started by torchrun: round trips of random tokens by every dispatch in turn.

    torchrun ... benchmarks/nodes/ranks.py WIDTH EXPERTS TOP_K SECONDS TOKENS...

Experts do nothing. With each number of tokens a rank the dispatches take turns, for SECONDS each or a little longer, so
that a busy moment of the machine hits all of them. Rank 0 prints a line of JSON for each dispatch and number.
"""

import json
import statistics
import sys
import time

import torch

from mixtralkit.dist.launch import Group, LaunchOptions
from mixtralkit.dist.run_rank import run_rank
from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.dispatch.transport import Transport
from mixtralkit.moe.placement.plan import even_split
from mixtralkit.moe.placement.routes import routes_of
from mixtralkit.moe.routing import Routing

DISPATCHES = ("collective", "all_gather", "hierarchical")
FEWEST_ROUNDS, MOST_ROUNDS = 3, 60


class Contest:
    """Some tokens of this rank, and what sending them there and back took, on the slowest rank, by dispatch."""

    def __init__(self, group: Group, tokens: int, width: int, num_experts: int, top_k: int) -> None:
        generator = torch.Generator().manual_seed(group.rank)
        ids_TK = torch.rand(tokens, num_experts, generator=generator).argsort(1)[:, :top_k].contiguous()
        self._group = group
        self._x_TD = torch.randn(tokens, width, generator=generator)
        self._routing = Routing(ids_TK, torch.full(ids_TK.shape, 1 / top_k))
        self.seconds: dict[str, list[float]] = {name: [] for name in DISPATCHES}
        self.cpu_seconds: dict[str, list[float]] = {name: [] for name in DISPATCHES}  # of all ranks together
        self.bytes_between_nodes: dict[str, int] = {}

    def trip(self, dispatch: Dispatch) -> None:
        """There and back once; all ranks begin together."""
        self._group.control.all_gather_json(None)
        before, begin, cpu_begin = self._bytes_to_other_nodes(), time.perf_counter(), time.process_time()
        rows_RD, _, handle = dispatch.dispatch(self._x_TD, self._routing)
        dispatch.combine(rows_RD, handle)
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
        mine = seconds, cpu_seconds, self._bytes_to_other_nodes() - before
        told = self._group.control.all_gather_json(mine)
        slowest, cpu, nbytes = zip(*told, strict=True)
        self.seconds[dispatch.name].append(max(slowest))
        self.cpu_seconds[dispatch.name].append(sum(cpu))
        self.bytes_between_nodes[dispatch.name] = sum(nbytes)

    def _bytes_to_other_nodes(self) -> int:
        node_of_rank, sent = self._group.topology.node_of_rank, self._group.collectives.bytes_to
        return sum(nbytes for rank, nbytes in enumerate(sent) if node_of_rank[rank] != self._group.node)


def hold(contest: Contest, dispatches: list[Dispatch], seconds: float) -> None:
    """Rounds until the time is used up, by what the ranks have measured together; the first does not count."""
    for dispatch in dispatches:
        contest.trip(dispatch)
        contest.seconds[dispatch.name].clear()
        contest.cpu_seconds[dispatch.name].clear()
    for rounds in range(MOST_ROUNDS):
        if rounds >= FEWEST_ROUNDS and sum(map(sum, contest.seconds.values())) > seconds * len(dispatches):
            return
        for dispatch in dispatches:
            contest.trip(dispatch)


@torch.inference_mode()
def main(group: Group) -> int:
    """Hold a contest for each number of tokens."""
    width, num_experts, top_k = map(int, sys.argv[1:4])
    routes = routes_of(even_split(num_experts, group.world_size), group.topology, group.rank)
    transport = Transport(group.collectives, num_experts)
    dispatches = [transport.dispatch(name, routes) for name in DISPATCHES]
    for tokens in map(int, sys.argv[5:]):
        contest = Contest(group, tokens, width, num_experts, top_k)
        hold(contest, dispatches, float(sys.argv[4]))
        for name, seconds in contest.seconds.items():
            figures = {
                "dispatch": name,
                "tokens_per_rank": tokens,
                "milliseconds": [1e3 * value for value in (statistics.median(seconds), min(seconds), max(seconds))],
                "rounds": len(seconds),
                "cpu_milliseconds": 1e3 * statistics.median(contest.cpu_seconds[name]),
                "bytes_between_nodes": contest.bytes_between_nodes[name],
            }
            if group.rank == 0:
                print(json.dumps(figures), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run_rank(main, LaunchOptions(device="cpu"), print))
