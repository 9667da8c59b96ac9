"""Turns the single-process model into one rank's part of the expert-parallel one."""

from typing import cast

from torch import nn

from mixtralkit.model.moe_ffn import MoeFfn
from mixtralkit.model.transformer import Block, Transformer
from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.experts import Experts
from mixtralkit.moe.gates.topk import TopKGate
from mixtralkit.moe.layer import MoELayer
from mixtralkit.moe.load import ExpertLoad
from mixtralkit.moe.placement.plan import Placement


def parallelize(model: Transformer, *, placement: Placement, rank: int, dispatch: Dispatch, load: ExpertLoad) -> None:
    """Replace every MoE FFN of `model` by a layer that keeps only the experts of `rank`, in place.

    Parameter names stay those of the checkpoint. Works on a model on the meta device as well.
    """
    for layer, module in enumerate(model.layers):
        block = cast(Block, module)
        whole = cast(MoeFfn, block.feed_forward)
        kept: dict[int, nn.Module] = {expert: whole.experts[expert] for expert in placement.experts_of(rank)}
        block.feed_forward = MoELayer(
            layer=layer,
            gate=TopKGate(whole.gate.weight, whole.top_k),
            experts=Experts(kept),
            dispatch=dispatch,
            load=load,
        )
