"""Small random models on several ranks with strategies in force, set up as the command line does, but without files.

Rates are given instead of measured, so that decisions do not depend on the machine.
"""

import copy
import time
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from mixtralkit.config import ModelConfig
from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology
from mixtralkit.model.moe_ffn import MoeFfn
from mixtralkit.model.transformer import Block, Transformer
from mixtralkit.moe.adaptive import AdaptivePlacement, Surroundings
from mixtralkit.moe.arrangement import Arrangement
from mixtralkit.moe.dispatch.transport import Transport
from mixtralkit.moe.load import ExpertLoad
from mixtralkit.moe.overlap import Overlap
from mixtralkit.moe.placement.cost import ExpertShape, Rates
from mixtralkit.moe.placement.plan import Placement, even_split
from mixtralkit.moe.placement.transfer import Fetch, Transfer
from mixtralkit.moe.steering import Steering
from mixtralkit.moe.step_choice import StepChooser
from mixtralkit.moe.timeline import Timeline
from mixtralkit.parallelize import moe_layers, parallelize

# Rows travel about as slowly as they are computed, and messages cost little: cutting pays for prefills of a few tokens.
EVEN_RATES = Rates(1e6, 1e6, 5e-4, 5e-4, compute=5e7, weight_bandwidth=1e10)
# Rows hardly get anywhere and everything else is free: every replica pays that saves a row its way.
SLOW_LINKS = Rates(1e5, 1e4, 0.0, 0.0, compute=1e15, weight_bandwidth=1e15)


@dataclass(frozen=True)
class Setup:
    """What is in force. `placements` None is the even split; `places` is how many replicas a rank may have, None for
    a placement that stays as it is. Without `topology` every two ranks are a node.
    """

    dispatches: tuple[str, ...] = ("collective",)
    cuts: tuple[int, ...] = (1,)
    group_size: int | None = None
    placements: tuple[Placement, ...] | None = None
    places: int | None = None
    rates: Rates = EVEN_RATES
    topology: Topology | None = None


@dataclass(frozen=True)
class Steered:
    """A rank's model and what steers it."""

    model: Transformer
    arrangement: Arrangement
    overlap: Overlap
    timeline: Timeline
    load: ExpertLoad
    steering: Steering

    @property
    def adaptive(self) -> AdaptivePlacement:
        """What follows the load, where something does."""
        assert self.steering.adaptive is not None
        return self.steering.adaptive


class PromptTransfer(Transfer):
    """One that is done when it has been made, so that the step of the switch does not depend on the machine."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        while not self.finished:
            time.sleep(0.001)


def shape_of_experts(config: ModelConfig) -> ExpertShape:
    """In float32."""
    return ExpertShape(config.dim, config.hidden_dim, 4 * config.expert_params, 4 * config.dim, config.top_k)


def expert_of(model: Transformer, layer: int, expert: int) -> nn.Module:
    """An expert of a model that is not spread."""
    return cast(MoeFfn, cast(Block, model.layers[layer]).feed_forward).experts[expert]


def fetch_from(model: Transformer) -> Fetch:
    """Copies experts of a model that is not spread, as if it were a file."""
    return lambda layer, expert: copy.deepcopy(expert_of(model, layer, expert))


def steer(model: Transformer, collectives: Collectives, setup: Setup, fetch: Fetch | None = None) -> Steered:
    """Keep this rank's share of `model`, and let `setup` steer it; `fetch` copies of the model unless given."""
    config, size = model.config, collectives.size
    topology = setup.topology or Topology(tuple(rank // 2 for rank in range(size)))
    placements = setup.placements or (even_split(config.num_experts, size),) * config.num_layers
    fetch = fetch or fetch_from(copy.deepcopy(model))
    arrangement = Arrangement(
        transport=Transport(collectives, config.num_experts),
        topology=topology,
        rank=collectives.rank,
        dispatch=setup.dispatches[0],
        capacity=None,
        outgoing_fraction=None,
        dropped_LE=torch.zeros(config.num_layers, config.num_experts, dtype=torch.int64),
    )
    timeline = Timeline(keep_spans=True)
    overlap = Overlap(timeline, setup.group_size)
    load = ExpertLoad(config.num_layers, config.num_experts, collectives.device)
    parallelize(
        model,
        routes=arrangement.routes(placements),
        dispatch_for=arrangement.dispatch_for,
        load=load,
        overlap=overlap,
        timeline=timeline,
        gate_of=arrangement.gate_of,
    )
    arrangement.layers = moe_layers(model)
    shape = shape_of_experts(config)
    chooser = StepChooser(
        dispatches=setup.dispatches, cuts=setup.cuts, topology=topology, rates=setup.rates, shape=shape
    )
    chooser.place(placements)
    adaptive = None
    if setup.places is not None:
        adaptive = AdaptivePlacement(
            control=collectives,
            timeline=timeline,
            homes=placements,
            surroundings=Surroundings(topology, setup.rates, shape, setup.places * shape.weight_bytes),
            held=arrangement.held,
            fetch=fetch,
            switch=arrangement.place,
        )
    steering = Steering(
        control=collectives,
        load=load,
        arrangement=arrangement,
        overlap=overlap,
        placements=placements,
        chooser=chooser,
        adaptive=adaptive,
    )
    return Steered(model, arrangement, overlap, timeline, load, steering)


def even_homes(config: ModelConfig, size: int) -> tuple[Placement, ...]:
    """The even split in all layers."""
    return (even_split(config.num_experts, size),) * config.num_layers


def moved_homes(config: ModelConfig, size: int) -> tuple[Placement, ...]:
    """As a plan may have it: dealt out in turn, and a rank further on in every other layer."""
    dealt = [tuple(range(rank % config.num_experts, config.num_experts, size)) for rank in range(size)]
    turned = [dealt[layer % 2 :] + dealt[: layer % 2] for layer in range(config.num_layers)]
    return tuple(Placement(config.num_experts, tuple(order)) for order in turned)
