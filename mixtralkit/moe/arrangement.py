"""How a model's MoE layers send rows and hold experts now, and how that is changed between two steps."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import nn

from mixtralkit.dist.topology import Topology
from mixtralkit.moe.capacity import Capacity
from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.dispatch.limited import LimitedDispatch
from mixtralkit.moe.dispatch.transport import Transport
from mixtralkit.moe.experts import Experts
from mixtralkit.moe.gates.node_limited import NodeLimitedGate, experts_on_node
from mixtralkit.moe.gates.topk import TopKGate
from mixtralkit.moe.layer import MoELayer
from mixtralkit.moe.placement.plan import Placement
from mixtralkit.moe.placement.rebalance import Demand
from mixtralkit.moe.placement.routes import Routes, routes_of


class Arrangement:
    """Makes the dispatch and the gate of each layer, and later changes them; all ranks make the same changes together.

    `dispatch` is the name of the first dispatch. `dropped_LE` (int64) counts the rows that a capacity drops, by layer
    and expert. `parallelize` asks for the parts, and `layers` are set when it has made them.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        topology: Topology,
        rank: int,
        dispatch: str,
        capacity: Capacity | None,
        outgoing_fraction: float | None,
        dropped_LE: torch.Tensor,
    ) -> None:
        self.layers: Sequence[MoELayer] = ()
        self.dispatch = dispatch
        self.topology = topology
        self.dropped_LE = dropped_LE
        self._transport, self._rank = transport, rank
        self._capacity, self._outgoing_fraction = capacity, outgoing_fraction

    def apart(self, dispatch: str) -> "Arrangement":
        """One like this that begins with another dispatch, has no layers, and counts dropped rows by itself."""
        return Arrangement(
            transport=self._transport,
            topology=self.topology,
            rank=self._rank,
            dispatch=dispatch,
            capacity=self._capacity,
            outgoing_fraction=self._outgoing_fraction,
            dropped_LE=torch.zeros_like(self.dropped_LE),
        )

    def routes(self, placements: Sequence[Placement], demand_LWE: Demand | None = None) -> list[Routes]:
        """Routes of this rank in each layer, given how many rows each rank has for each expert, if that is known."""
        demands = [None] * len(placements) if demand_LWE is None else demand_LWE
        pairs = zip(placements, demands, strict=True)
        return [routes_of(placement, self.topology, self._rank, demand_WE) for placement, demand_WE in pairs]

    def dispatch_for(self, routes: Routes, layer: int) -> Dispatch:
        """The dispatch in use, for a layer."""
        dispatch = self.bare_dispatch(self.dispatch, routes)
        if self._capacity is None:
            return dispatch
        device = self.dropped_LE.device
        held_E = torch.zeros(routes.placement.num_experts, dtype=torch.bool, device=device)
        held_E[list(routes.local_experts)] = True
        return LimitedDispatch(dispatch, self._capacity, held_E, self.dropped_LE[layer])

    def bare_dispatch(self, name: str, routes: Routes) -> Dispatch:
        """The dispatch of that name, without any limits; all ranks ask for it together."""
        return self._transport.dispatch(name, routes)

    def gate_of(self, weight_ED: nn.Parameter, top_k: int, routes: Routes) -> nn.Module:
        """The gate of a layer."""
        if self._outgoing_fraction is None:
            return TopKGate(weight_ED, top_k)
        return NodeLimitedGate(weight_ED, top_k, self._on_node(routes), self._outgoing_fraction)

    def held(self, layer: int) -> Mapping[int, nn.Module]:
        """The experts that this rank holds of a layer, by number."""
        return {int(name): module for name, module in self.layers[layer].experts.named_children()}

    @property
    def top_k(self) -> int:
        """How many experts a token goes to."""
        return cast(TopKGate, self.layers[0].gate).top_k

    def use(self, dispatch: str) -> None:
        """Send rows by the dispatch of that name from now on."""
        if dispatch == self.dispatch:
            return
        self.dispatch = dispatch
        for layer in self.layers:
            layer.use(self.dispatch_for(layer.routes, layer.layer))

    def place(
        self,
        placements: Sequence[Placement],
        demand_LWE: Demand,
        fetched: Mapping[tuple[int, int], nn.Module],
    ) -> None:
        """Hold what `placements` say from now on; `fetched` has the experts, by layer and number, that are new here."""
        for layer, routes in zip(self.layers, self.routes(placements, demand_LWE), strict=True):
            if routes == layer.routes:
                continue
            held = {**self.held(layer.layer), **{e: module for (at, e), module in fetched.items() if at == layer.layer}}
            experts = Experts({expert: held[expert] for expert in routes.local_experts})
            layer.place(routes, experts, self.dispatch_for(routes, layer.layer))
            if self._outgoing_fraction is not None:
                cast(NodeLimitedGate, layer.gate).set_on_node(self._on_node(routes))

    def _on_node(self, routes: Routes) -> torch.Tensor:
        return experts_on_node(routes.placement, self.topology, self._rank, self.dropped_LE.device)
