"""Runs MoE layers in other ways than the model does, and times them: with its weights, and without touching it.

The layers are made anew for each way, around the experts that the model has. They have a load, a timeline and an
overlap of their own, so that nothing the model counts changes. Tokens are noise, and rows spread over the experts as
they did in the run.
"""

import statistics
import time
from collections.abc import Sequence

import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.moe.arrangement import Arrangement
from mixtralkit.moe.experts import Experts
from mixtralkit.moe.gates.drawn import DrawnGate, draw_routing
from mixtralkit.moe.layer import MoELayer
from mixtralkit.moe.load import ExpertLoad
from mixtralkit.moe.overlap import Overlap
from mixtralkit.moe.placement.plan import Placement
from mixtralkit.moe.placement.rebalance import Demand
from mixtralkit.moe.placement.routes import Routes
from mixtralkit.moe.routing import Routing
from mixtralkit.moe.timeline import Timeline

REPEATS = 3  # after one that is not counted
LONG = 0.1  # seconds: what takes so long is not repeated, and the first time counts


class Trials:
    """Steps in which rank w has `tokens_W[w]` tokens, of which the first `num_layers` layers are run.

    `demand_LWE` says how rows spread, `group_size` what cuts are made by (see `Overlap`). All ranks make and use it
    alike.
    """

    def __init__(
        self,
        *,
        control: Collectives,
        arrangement: Arrangement,
        demand_LWE: Demand,
        tokens_W: Sequence[int],
        top_k: int,
        width: int,
        num_layers: int,
        group_size: int | None,
    ) -> None:
        self._control, self._arrangement, self._demand_LWE = control, arrangement, demand_LWE
        self._device = arrangement.dropped_LE.device
        self._timeline = Timeline()
        self._overlap = Overlap(self._timeline, group_size)
        self._load = ExpertLoad(len(demand_LWE), len(demand_LWE[0][0]), self._device)
        tokens, generator = tokens_W[control.rank], torch.Generator().manual_seed(control.rank)
        self._x_TD = torch.randn(tokens, width, generator=generator).to(self._device, _row_dtype(arrangement))
        self._routings: list[Routing] = [
            draw_routing(_shares(demand_WE, control.rank), tokens, top_k, generator, self._device)
            for demand_WE in demand_LWE[:num_layers]
        ]

    def seconds(self, placements: Sequence[Placement], dispatch: str, parts: int) -> float:
        """Of the layers that are run, on the slowest rank: the median of some times. The same on all ranks.

        Each rank must hold the experts that `placements`, one a layer, give it.
        """
        layers = self._layers(placements, dispatch)
        self._overlap.chunks = parts
        first = self._time(layers)
        return first if first > LONG else statistics.median(self._time(layers) for _ in range(REPEATS))

    def _layers(self, placements: Sequence[Placement], dispatch: str) -> list[MoELayer]:
        arrangement = self._arrangement.apart(dispatch)
        routes = arrangement.routes(placements, self._demand_LWE)
        return [
            MoELayer(
                layer=layer,
                gate=DrawnGate(routing),
                experts=self._experts(layer, routes[layer]),
                routes=routes[layer],
                dispatch=arrangement.dispatch_for(routes[layer], layer),
                load=self._load,
                overlap=self._overlap,
                timeline=self._timeline,
            )
            for layer, routing in enumerate(self._routings)
        ]

    def _experts(self, layer: int, routes: Routes) -> Experts:
        held = self._arrangement.held(layer)
        return Experts({expert: held[expert] for expert in routes.local_experts})

    @torch.inference_mode()
    def _time(self, layers: Sequence[MoELayer]) -> float:
        self._control.all_gather(torch.zeros(1, dtype=torch.uint8, device=self._control.device))  # begin together
        begin = time.perf_counter()
        for layer in layers:
            layer.mixture(self._x_TD)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return float(max(self._control.all_gather_json(time.perf_counter() - begin)))


def _shares(demand_WE: Sequence[Sequence[float]], rank: int) -> list[float]:
    """How this rank's rows spread in a layer; as all ranks' do where it had none."""
    mine = list(demand_WE[rank])
    whole = [sum(column) for column in zip(*demand_WE, strict=True)]
    return mine if any(mine) else whole if any(whole) else [1.0] * len(whole)


def _row_dtype(arrangement: Arrangement) -> torch.dtype:
    """What the model feeds to its layers: float32 on the CPU, else the weights' own."""
    if arrangement.dropped_LE.device.type == "cpu":
        return torch.float32
    return next(arrangement.layers[0].gate.parameters()).dtype
