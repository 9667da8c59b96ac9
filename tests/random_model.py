"""Small random models for tests."""

from collections.abc import Sequence

import torch
from torch import nn

from mixtralkit.config import ModelConfig
from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology
from mixtralkit.model.quantized_linear import QuantizedLinear, quantize_modules
from mixtralkit.model.transformer import Transformer
from mixtralkit.moe.dispatch.transport import Transport
from mixtralkit.moe.load import ExpertLoad
from mixtralkit.moe.overlap import Overlap
from mixtralkit.moe.placement.plan import Placement, even_split
from mixtralkit.moe.placement.routes import routes_of
from mixtralkit.ops.quantize import quantize
from mixtralkit.ops.quantized_weight import QuantKind
from mixtralkit.parallelize import parallelize

TINY = ModelConfig(
    vocab_size=96,
    dim=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    hidden_dim=48,
    num_experts=5,
    top_k=2,
    context=64,
)


def random_model(config: ModelConfig = TINY, seed: int = 0, dtype: torch.dtype = torch.float32) -> Transformer:
    """A model whose logits are of the order of 1 and whose tokens go to all experts."""
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 1.0 if parameter.dim() == 1 or "embeddings" in name else parameter.shape[1] ** -0.5
            noise = torch.randn(parameter.shape, generator=generator) * scale
            parameter.copy_(1 + noise / 10 if parameter.dim() == 1 else noise)
    return model.to(dtype).eval().requires_grad_(False)


def quantize_random(model: Transformer, kind: QuantKind) -> None:
    """Quantize the matrices of `model` in place."""
    matrices = {name: tensor for name, tensor in model.state_dict().items() if tensor.dim() == 2}
    quantize_modules(model, kind)
    for name, module in model.named_modules():
        if isinstance(module, QuantizedLinear):
            for part, tensor in quantize(matrices[f"{name}.weight"], kind).parts.items():
                setattr(module, part, nn.Parameter(tensor, requires_grad=False))


def spread(
    model: Transformer,
    dispatch: str,
    collectives: Collectives,
    placements: Sequence[Placement] | None = None,
    overlap: Overlap | None = None,
) -> ExpertLoad:
    """Keep this rank's share of `model`, by default evenly split; returns where its rows are counted.

    Every two ranks count as a node, for the choice among several owners.
    """
    config = model.config
    placements = placements or [even_split(config.num_experts, collectives.size)] * config.num_layers
    topology = Topology(tuple(rank // 2 for rank in range(collectives.size)))
    transport = Transport(collectives, config.num_experts)
    load = ExpertLoad(config.num_layers, config.num_experts, collectives.device)
    parallelize(
        model,
        routes=[routes_of(placement, topology, collectives.rank) for placement in placements],
        dispatch_for=lambda routes, _: transport.dispatch(dispatch, routes),
        load=load,
        overlap=overlap,
    )
    return load
