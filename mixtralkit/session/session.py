"""A loaded model with its engine on every rank."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from mixtralkit.checkpoint.checkpoint_summary import QuantizedShare, summarize, with_placements
from mixtralkit.checkpoint.expert_reader import ExpertReader
from mixtralkit.checkpoint.formats import digest
from mixtralkit.checkpoint.loader import load_model
from mixtralkit.checkpoint.matching_tokenizer import open_tokenizer
from mixtralkit.config import ModelConfig
from mixtralkit.dist.launch import Group
from mixtralkit.dist.preflight import agree
from mixtralkit.dist.topology import Topology
from mixtralkit.engine.engine import Engine
from mixtralkit.engine.snapshot import StepFacts
from mixtralkit.log import get_logger, notice
from mixtralkit.model.transformer import Transformer
from mixtralkit.moe.arrangement import Arrangement
from mixtralkit.moe.capacity import Capacity
from mixtralkit.moe.common_kernels import use_common_kernels
from mixtralkit.moe.dispatch.choose import DispatchChoice, DispatchFacts, candidates
from mixtralkit.moe.dispatch.obstacles import obstacles
from mixtralkit.moe.dispatch.transport import Transport
from mixtralkit.moe.fastmoe_backend import FastMoeLayer, OwnRows, own_rows
from mixtralkit.moe.layer import MoELayer
from mixtralkit.moe.load import ExpertLoad
from mixtralkit.moe.overlap import Overlap
from mixtralkit.moe.placement.plan import Placement
from mixtralkit.moe.steering_setup import Spread, Steered, node_topology, set_up_steering
from mixtralkit.moe.strategies import Strategies
from mixtralkit.moe.strategy_check import wrong_beliefs
from mixtralkit.moe.timeline import Timeline
from mixtralkit.parallelize import moe_layers, parallelize
from mixtralkit.session.dispatch_in_force import dispatch_in_force
from mixtralkit.session.kv_room import with_kv_room
from mixtralkit.session.node_memory import check_node_memory
from mixtralkit.session.rank_state import rank_state
from mixtralkit.session.settings import OnProgress, SessionSettings
from mixtralkit.session.starting_placements import check_replica_memory, digest_of, starting_placements
from mixtralkit.session.step_spans import StepSpans
from mixtralkit.sizes import counted
from mixtralkit.tokenizer import Tokenizer

_logger = get_logger(__name__)


@dataclass(frozen=True)
class Session:
    """What was loaded, and how: `dispatch` with the reason for it, the rows that experts get, the seconds it took.

    `quantized` is the part of the whole model that is quantized, None where nothing is.
    """

    group: Group
    model: Transformer
    tokenizer: Tokenizer
    engine: Engine
    strategies: Strategies
    spread: Spread
    steered: Steered
    quantized: QuantizedShare | None
    dispatch: DispatchChoice
    load_seconds: float

    @property
    def load(self) -> ExpertLoad:
        """The rows of this rank's tokens, by layer and expert."""
        return self.spread.load


def open_session(
    group: Group,
    settings: SessionSettings,
    on_progress: OnProgress = lambda done, total: None,
    on_facts: Callable[[StepFacts], None] = lambda facts: None,
) -> Session:
    """Check what the user gave, load this rank's part of the model, and make the engine; all ranks do so together.

    `on_facts` is told what each of the engine's steps did, on rank 0.
    Raises the errors of the checkpoint, the tokenizer and the placement before any weights are read.
    """
    started = time.perf_counter()
    group.at("looking at the checkpoint")
    strategies = settings.strategies
    summary = summarize(settings.model_weights, group.world_size, settings.quantize)
    checkpoint, config = summary.checkpoint, summary.config
    topology = node_topology(strategies, group.topology)
    placements = starting_placements(strategies, config, topology, group.world_size)
    check_replica_memory(strategies, placements, summary.expert_nbytes // config.num_layers)
    summary = with_placements(summary, placements)
    facts = DispatchFacts(group.device.type, topology, settings.limits.batch_size, obstacles(group))
    dispatch = dispatch_in_force(settings, facts, group.device, summary)
    tokenizer = open_tokenizer(checkpoint, settings.tokenizer)
    check_node_memory(group, summary, settings.dtype)
    agree(
        group.control,
        {
            "checkpoint": digest(checkpoint),
            "tokenizer": tokenizer.digest,
            "dispatch": dispatch.name,
            "placement": digest_of(placements),
        },
    )
    _notice_beliefs(group, strategies, config, topology)
    _tell(group, dispatch)
    if group.device.type == "cpu":
        use_common_kernels(group.control)
    group.at("loading")
    arrangement = _arrange(group, strategies, topology, config, dispatch.name)
    model, spread = _load(group, settings, config, arrangement, placements, on_progress)
    steered = set_up_steering(
        group,
        strategies,
        spread,
        dispatches=candidates(settings.dispatch, dispatch.name, facts),
        explain=settings.explain,
        fetch=lambda: _expert_reader(settings, group).read,
    )
    engine = _engine(group, settings, model, tokenizer, spread, steered, on_facts)
    seconds = time.perf_counter() - started
    quantized = summary.quantized
    return Session(group, model, tokenizer, engine, strategies, spread, steered, quantized, dispatch, seconds)


def _engine(
    group: Group,
    settings: SessionSettings,
    model: Transformer,
    tokenizer: Tokenizer,
    spread: Spread,
    steered: Steered,
    on_facts: Callable[[StepFacts], None],
) -> Engine:
    steps = StepSpans(spread.timeline, group.at)
    group.at("compiling kernels and recording decode steps")
    return Engine(
        model=model,
        tokenizer=tokenizer,
        control=group.control,
        limits=with_kv_room(settings.limits, group, model),
        on_step=steps.begin,
        before_step=steered.steering.before_step,
        after_step=steps.end,
        state=lambda: rank_state(group, spread, steered),
        on_facts=on_facts,
        changes=None if steered.steering.adaptive is None else "the placement follows the load",
    )


def _tell(group: Group, dispatch: DispatchChoice) -> None:
    """Log how rows are to travel, and why; as a warning where a better way is not possible."""
    if group.rank == 0:
        _logger.info("rows travel by %s: %s", dispatch.name, dispatch.reason)
    if dispatch.missed:
        notice(_logger, f"rows travel by {dispatch.name}, {', '.join(dispatch.missed)}")


def _notice_beliefs(group: Group, strategies: Strategies, config: ModelConfig, topology: Topology) -> None:
    """Say where the user believes something of the machines or the model that is not so."""
    if topology != group.topology:
        found = counted(group.topology.num_nodes, "host")
        notice(_logger, f"strategies take the ranks for {counted(topology.num_nodes, 'node')}; they are on {found}")
    for words in wrong_beliefs(strategies, config):
        notice(_logger, words)


def _arrange(
    group: Group, strategies: Strategies, topology: Topology, config: ModelConfig, dispatch: str
) -> Arrangement:
    capacity = Capacity(strategies.capacity_factor, strategies.capacity_min, strategies.capacity_cold)
    return Arrangement(
        transport=Transport(group.collectives, config.num_experts),
        topology=topology,
        rank=group.rank,
        dispatch=dispatch,
        capacity=capacity if strategies.drops_rows else None,
        outgoing_fraction=strategies.outgoing_fraction,
        dropped_LE=torch.zeros(config.num_layers, config.num_experts, dtype=torch.int64, device=group.device),
    )


def _expert_reader(settings: SessionSettings, group: Group) -> ExpertReader:
    return ExpertReader(settings.model_weights, dtype=settings.dtype, device=group.device, quantize=settings.quantize)


def _load(
    group: Group,
    settings: SessionSettings,
    config: ModelConfig,
    arrangement: Arrangement,
    placements: tuple[Placement, ...],
    on_progress: OnProgress,
) -> tuple[Transformer, Spread]:
    timeline = Timeline(keep_spans=settings.keep_spans)
    overlap = Overlap(timeline, settings.strategies.group_size if settings.strategies.overlaps else None)
    load = ExpertLoad(config.num_layers, config.num_experts, group.device)

    fastmoe = settings.moe_backend == OwnRows.name

    def spread(model: Transformer) -> None:
        parallelize(
            model,
            routes=arrangement.routes(placements),
            dispatch_for=own_rows if fastmoe else arrangement.dispatch_for,
            load=load,
            overlap=overlap,
            timeline=timeline,
            gate_of=arrangement.gate_of,
            layer_of=FastMoeLayer if fastmoe else MoELayer,
        )

    model = load_model(
        settings.model_weights,
        dtype=settings.dtype,
        device=group.device,
        quantize=settings.quantize,
        spread=spread,
        on_progress=lambda state: on_progress(state.nbytes, state.total_nbytes),
    )
    arrangement.layers = moe_layers(model)
    return model, Spread(config, arrangement, overlap, timeline, load, placements)
