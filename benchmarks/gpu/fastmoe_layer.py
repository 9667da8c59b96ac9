"""The mixture of experts of one layer beside the same computed by FastMoE, where that is installed.

python -m benchmarks.gpu.fastmoe_layer
"""

import importlib.util
from functools import partial

import torch
from torch import nn

from benchmarks.gpu.moe_layer import DIM, EXPERTS, HIDDEN, TOKENS, TOP_K, milliseconds, random_weight
from benchmarks.gpu.section import tell
from mixtralkit.dist.topology import Topology
from mixtralkit.model.moe_ffn import Expert
from mixtralkit.moe.experts import Experts
from mixtralkit.moe.fastmoe_backend import FastMoeLayer, OwnRows
from mixtralkit.moe.gates.topk import TopKGate
from mixtralkit.moe.load import ExpertLoad
from mixtralkit.moe.overlap import Overlap
from mixtralkit.moe.placement.plan import even_split
from mixtralkit.moe.placement.routes import routes_of
from mixtralkit.moe.timeline import Timeline
from mixtralkit.ops.blocks import moe_block
from mixtralkit.ops.matrices import Matrices
from mixtralkit.ops.rms_norm import Norm


def main() -> None:
    """Milliseconds of both by the number of tokens, bfloat16."""
    if importlib.util.find_spec("fmoe") is None:
        tell("FastMoE is not installed here.\n", None)
        return
    device = torch.device("cuda")
    weights = [
        random_weight(device, *shape) for _ in range(EXPERTS) for shape in ((HIDDEN, DIM), (DIM, HIDDEN), (HIDDEN, DIM))
    ]
    matrices, gate_ED = Matrices(weights), random_weight(device, EXPERTS, DIM)
    norm = Norm(torch.ones(DIM, dtype=torch.bfloat16, device=device), 1e-5)
    fastmoe = fastmoe_layer(weights, gate_ED, TOP_K)
    lines = ["| tokens | the layer, ms | FastMoE, ms | ratio |", "|---|---|---|---|"]
    document = []
    for tokens in TOKENS:
        x_TD = random_weight(device, tokens, DIM)
        ours = milliseconds(partial(moe_block, x_TD, norm, gate_ED, TOP_K, matrices))
        theirs = milliseconds(partial(fastmoe, x_TD, norm))
        lines.append(f"| {tokens} | {ours:.3f} | {theirs:.3f} | {theirs / ours:.2f} |")
        document.append({"tokens": tokens, "layer": ours, "fastmoe": theirs})
    tell("\n".join(lines) + "\n", document)


def fastmoe_layer(weights: list[torch.Tensor], gate_ED: torch.Tensor, top_k: int) -> FastMoeLayer:
    """A layer of one rank over the w1, w2, w3 of each expert after the other, and the gate's weight."""
    experts = len(weights) // 3
    with torch.device("meta"):
        modules = [Expert(weights[0].shape[1], weights[0].shape[0]) for _ in range(experts)]
    for index, module in enumerate(modules):
        for linear, weight in zip((module.w1, module.w2, module.w3), weights[3 * index :], strict=False):
            linear.weight = nn.Parameter(weight, requires_grad=False)
    timeline = Timeline()
    return FastMoeLayer(
        layer=0,
        gate=TopKGate(nn.Parameter(gate_ED, requires_grad=False), top_k),
        experts=Experts(dict(enumerate(modules))),
        routes=routes_of(even_split(experts, 1), Topology((0,)), 0),
        dispatch=OwnRows(),
        load=ExpertLoad(1, experts, gate_ED.device),
        overlap=Overlap(timeline),
        timeline=timeline,
    )


if __name__ == "__main__":
    main()
