"""A loaded model with its engine on every rank, as `generate` and `chat` need it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from mixtralkit.checkpoint.checkpoint_summary import QuantizedShare, summarize
from mixtralkit.checkpoint.formats import digest
from mixtralkit.checkpoint.loader import load_model
from mixtralkit.checkpoint.matching_tokenizer import open_tokenizer
from mixtralkit.cli.node_memory import check_node_memory
from mixtralkit.cli.options import ModelOptions
from mixtralkit.cli.progress import Progress
from mixtralkit.dist.launch import Group
from mixtralkit.dist.preflight import agree
from mixtralkit.engine.engine import Engine
from mixtralkit.model.transformer import Transformer
from mixtralkit.moe.common_kernels import use_common_kernels
from mixtralkit.moe.dispatch.choose import choose_dispatch, why_not_peer
from mixtralkit.moe.dispatch.transport import Transport
from mixtralkit.moe.load import ExpertLoad
from mixtralkit.moe.placement.plan import Placement, even_split
from mixtralkit.moe.placement.routes import routes_of
from mixtralkit.ops.quantized_weight import QuantKind
from mixtralkit.parallelize import parallelize
from mixtralkit.tokenizer import Tokenizer


@dataclass(frozen=True)
class Session:
    """What was loaded, and how: `dispatch` and the reason for it, the rows that experts get, the seconds it took.

    `quantized` is the part of the whole model that is quantized, None where nothing is.
    """

    group: Group
    model: Transformer
    tokenizer: Tokenizer
    engine: Engine
    placement: Placement
    load: ExpertLoad
    quantized: QuantizedShare | None
    dispatch: str
    dispatch_reason: str
    load_seconds: float


def open_session(group: Group, options: ModelOptions, batch_size: int) -> Session:
    """Check what the user gave, load this rank's part of the model, and make the engine; all ranks do so together.

    Raises the errors of the checkpoint, the tokenizer and the placement before any weights are read.
    """
    started = time.perf_counter()
    group.at("looking at the checkpoint")
    summary = summarize(options.model_weights, group.world_size, _quantize(options))
    checkpoint = summary.checkpoint
    placement = even_split(checkpoint.config.num_experts, group.world_size)
    problem = why_not_peer(group.device, group.topology.num_nodes)
    name, reason = choose_dispatch(options.dispatch, group.world_size, batch_size, problem)
    tokenizer = open_tokenizer(checkpoint, options.tokenizer)
    check_node_memory(group, summary, _dtype(options))
    agree(group.control, {"checkpoint": digest(checkpoint), "tokenizer": tokenizer.digest, "dispatch": name})
    if group.device.type == "cpu":
        use_common_kernels(group.control)
    load = ExpertLoad(checkpoint.config.num_layers, checkpoint.config.num_experts, group.device)
    group.at("loading")
    transport = Transport(group.collectives, checkpoint.config.num_experts)
    model = _load(
        group,
        options,
        lambda model: parallelize(
            model,
            routes=[routes_of(placement, group.topology, group.rank)] * checkpoint.config.num_layers,
            dispatch_for=lambda routes, _: transport.dispatch(name, routes),
            load=load,
        ),
    )
    engine = Engine(model=model, tokenizer=tokenizer, control=group.control, batch_size=batch_size, on_step=group.at)
    seconds = time.perf_counter() - started
    return Session(group, model, tokenizer, engine, placement, load, summary.quantized, name, reason, seconds)


def _dtype(options: ModelOptions) -> torch.dtype | None:
    return None if options.dtype == "auto" else getattr(torch, options.dtype)


def _quantize(options: ModelOptions) -> QuantKind | None:
    return None if options.quantize is None else QuantKind(options.quantize)


def _load(group: Group, options: ModelOptions, spread: Callable[[Transformer], None]) -> Transformer:
    progress = Progress("loading", show=group.rank == 0)
    try:
        return load_model(
            options.model_weights,
            dtype=_dtype(options),
            device=group.device,
            quantize=_quantize(options),
            spread=spread,
            on_progress=lambda state: progress.update(state.nbytes, state.total_nbytes),
        )
    finally:
        progress.close()
