"""Which dispatch the next step takes, and in how many parts its rows travel: whatever is predicted to be fastest.

Every rank decides for itself, and all alike: from the numbers of tokens of all ranks, which the engine's plan tells,
and from rates that they agreed on at the start.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mixtralkit.dist.topology import Topology
from mixtralkit.moe.placement.cost import ExpertShape, Rates, overlapped_time
from mixtralkit.moe.placement.plan import Placement
from mixtralkit.moe.placement.rebalance import Demand

_Layer = tuple[Placement, tuple[float, ...]]  # and the shares of its experts in its rows

CUTS = (1, 2, 3, 4, 6, 8)  # numbers of parts, to choose from
_SAMPLED = 4  # layers that stand for all, if these differ: predicting is Python, between two steps
# In a part, on the rank that has most. Of smaller parts predictions are too low by half: what a part costs beyond its
# rows and weights is not in them (benchmarks/results).
_FEWEST_TOKENS = 32
WORTH_IT = 0.9  # a cut must be predicted to take at most this part of the time without: predictions err


@dataclass(frozen=True)
class Choice:
    """What to do in a step, and the seconds predicted for all its MoE layers."""

    dispatch: str
    parts: int
    seconds: float


class StepChooser:
    """Chooses among `dispatches` and, by `cuts`, ascending numbers of parts; 1 is to leave rows in one piece."""

    def __init__(
        self, *, dispatches: Sequence[str], cuts: Sequence[int], topology: Topology, rates: Rates, shape: ExpertShape
    ) -> None:
        self.dispatches = tuple(dispatches)
        self.cuts = tuple(cuts)
        self._topology, self._rates, self._shape = topology, rates, shape
        self._layers: Counter[_Layer] = Counter()
        self._scale = 1.0
        self._known: dict[tuple[int, ...], Choice] = {}

    def place(self, placements: Sequence[Placement], demand_LWE: Demand | None = None) -> None:
        """From now on the layers have these placements; `demand_LWE` tells how their rows spread, else evenly."""
        even = (1.0 / placements[0].num_experts,) * placements[0].num_experts
        shares = [even] * len(placements) if demand_LWE is None else [_shares(demand_WE) for demand_WE in demand_LWE]
        layers = list(zip(placements, shares, strict=True))
        every = -(-len(layers) // _SAMPLED)
        self._layers = Counter(layers[::every] if len(set(layers)) > _SAMPLED else layers)
        self._scale = len(layers) / self._layers.total()
        self._known.clear()

    def choose(self, tokens_W: Sequence[int]) -> Choice:
        """For a step in which rank w has `tokens_W[w]` tokens."""
        key = tuple(tokens_W)
        if key not in self._known:
            self._known[key] = self._choose(key)
        return self._known[key]

    def choose_for(self, placements: Sequence[Placement], demand_LWE: Demand, tokens_W: Sequence[int]) -> Choice:
        """As `choose` after `place`, which it leaves as it was."""
        other = StepChooser(
            dispatches=self.dispatches, cuts=self.cuts, topology=self._topology, rates=self._rates, shape=self._shape
        )
        other.place(placements, demand_LWE)
        return other.choose(tokens_W)

    def alternatives(self, tokens_W: Sequence[int]) -> list[Choice]:
        """All choices that there are, with their predicted times."""
        return self._predicted(self.cuts, tokens_W)

    def predict(self, dispatch: str, parts: int, tokens_W: Sequence[int]) -> float:
        """Seconds of all MoE layers in a step."""
        around = self._topology, self._rates, self._shape, dispatch
        total = 0.0
        for (placement, share_E), layers in self._layers.items():
            demand_WE = [[tokens * self._shape.top_k * share for share in share_E] for tokens in tokens_W]
            total += layers * overlapped_time(demand_WE, placement, *around, chunks=parts)
        return total * self._scale

    def _choose(self, tokens_W: Sequence[int]) -> Choice:
        fewest, *others = self.cuts
        cuts = [fewest, *(parts for parts in others if parts * _FEWEST_TOKENS <= max(tokens_W))]
        choices = self._predicted(cuts, tokens_W)
        whole = min((choice for choice in choices if choice.parts == fewest), key=lambda choice: choice.seconds)
        best = min(choices, key=lambda choice: choice.seconds)
        return best if best.seconds < WORTH_IT * whole.seconds else whole

    def _predicted(self, cuts: Sequence[int], tokens_W: Sequence[int]) -> list[Choice]:
        return [
            Choice(dispatch, parts, self.predict(dispatch, parts, tokens_W))
            for dispatch in self.dispatches
            for parts in cuts
        ]


def _shares(demand_WE: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Of a layer's rows, the part of each expert; even where there are none."""
    rows_E = [sum(column) for column in zip(*demand_WE, strict=True)]
    total = sum(rows_E)
    return tuple(rows / total if total else 1.0 / len(rows_E) for rows in rows_E)
