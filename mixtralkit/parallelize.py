"""Turns the single-process model into one rank's part of the expert-parallel one."""

from collections.abc import Callable, Sequence
from typing import cast

from torch import nn

from mixtralkit.model.moe_ffn import MoeFfn
from mixtralkit.model.transformer import Block, Transformer
from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.experts import Experts
from mixtralkit.moe.gates.topk import TopKGate
from mixtralkit.moe.layer import MoELayer
from mixtralkit.moe.load import ExpertLoad
from mixtralkit.moe.overlap import Overlap
from mixtralkit.moe.placement.routes import Routes
from mixtralkit.moe.timeline import Timeline

GateOf = Callable[[nn.Parameter, int, Routes], nn.Module]


def topk_gate_of(weight_ED: nn.Parameter, top_k: int, routes: Routes) -> nn.Module:
    """Mixtral's own gate, which does not care where experts are."""
    return TopKGate(weight_ED, top_k)


def parallelize(
    model: Transformer,
    *,
    routes: Sequence[Routes],
    dispatch_for: Callable[[Routes, int], Dispatch],
    load: ExpertLoad,
    overlap: Overlap | None = None,
    timeline: Timeline | None = None,
    gate_of: GateOf = topk_gate_of,
    layer_of: type[MoELayer] = MoELayer,
) -> None:
    """Replace every MoE FFN of `model` by a layer that keeps only this rank's experts, in place.

    `routes` has one entry a layer, and `dispatch_for` is asked for each with the layer's number. Parameter names stay
    those of the checkpoint. Works on a model on the meta device as well. `layer_of` is what layers are made of.
    """
    timeline = timeline or Timeline()
    overlap = overlap or Overlap(timeline)
    for layer, (module, layer_routes) in enumerate(zip(model.layers, routes, strict=True)):
        block = cast(Block, module)
        whole = cast(MoeFfn, block.feed_forward)
        kept: dict[int, nn.Module] = {expert: whole.experts[expert] for expert in layer_routes.local_experts}
        block.feed_forward = layer_of(
            layer=layer,
            gate=gate_of(whole.gate.weight, whole.top_k, layer_routes),
            experts=Experts(kept),
            routes=layer_routes,
            dispatch=dispatch_for(layer_routes, layer),
            load=load,
            overlap=overlap,
            timeline=timeline,
        )


def moe_layers(model: Transformer) -> list[MoELayer]:
    """The layers that `parallelize` has put in, in order."""
    return [cast(MoELayer, cast(Block, module).feed_forward) for module in model.layers]
