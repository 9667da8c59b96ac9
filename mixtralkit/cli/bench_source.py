"""Where the model that `mixtralkit bench` measures comes from: a checkpoint, or random weights of some shape."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from mixtralkit.bench.random_weights import random_model
from mixtralkit.bench.shapes import shape_of
from mixtralkit.bench.subject import Subject, open_subject
from mixtralkit.checkpoint.checkpoint_summary import summarize
from mixtralkit.checkpoint.formats import detect, digest
from mixtralkit.checkpoint.loader import load_model
from mixtralkit.cli.bench_options import UNQUANTIZED, BenchOptions
from mixtralkit.config import ModelConfig
from mixtralkit.dist.launch import Group
from mixtralkit.dist.preflight import agree
from mixtralkit.ops.quantized_weight import QuantKind
from mixtralkit.session.node_memory import check_node_memory


class Source(Protocol):
    """What can be opened for measuring, on all ranks together, and described."""

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""

    def open(self, group: Group) -> Subject:
        """Load this rank's part of the model."""

    def facts(self) -> dict[str, Any]:
        """What it is, as JSON."""


@dataclass(frozen=True)
class CheckpointSource:
    """The model in `folder`; `dtype` None keeps the files'. `moe_backend` is one of common_options'."""

    folder: Path
    dtype: torch.dtype | None
    quantize: QuantKind | None
    moe_backend: str

    @property
    def config(self) -> ModelConfig:
        """See `Source`; raises the errors of the checkpoint."""
        return detect(self.folder).config

    def open(self, group: Group) -> Subject:
        """See `Source`; raises the errors of the checkpoint before any weights are read."""
        summary = summarize(self.folder, group.world_size, self.quantize)
        check_node_memory(group, summary, self.dtype)
        agree(group.control, {"checkpoint": digest(summary.checkpoint)})
        return open_subject(
            group,
            summary.config,
            lambda spread: load_model(
                self.folder, dtype=self.dtype, device=group.device, quantize=self.quantize, spread=spread
            ),
            moe_backend=self.moe_backend,
            quantized=summary.quantized is not None,
        )

    def facts(self) -> dict[str, Any]:
        """See `Source`."""
        return {"name": self.folder.resolve().name, "weights": "checkpoint", **_shape(self.config)}


@dataclass(frozen=True)
class RandomSource:
    """Random weights of the shape `name`. `moe_backend` is one of common_options'."""

    name: str
    dtype: torch.dtype
    quantize: QuantKind | None
    moe_backend: str

    @property
    def config(self) -> ModelConfig:
        """See `Source`."""
        return shape_of(self.name)

    def open(self, group: Group) -> Subject:
        """See `Source`."""
        config = self.config
        ranks = len(group.topology.ranks_of_node(group.node)) if group.device.type == "cpu" else 1
        return open_subject(
            group,
            config,
            lambda spread: random_model(
                config,
                dtype=self.dtype,
                device=group.device,
                quantize=self.quantize,
                ranks_on_device=ranks,
                spread=spread,
            ),
            moe_backend=self.moe_backend,
            quantized=self.quantize is not None,
        )

    def facts(self) -> dict[str, Any]:
        """See `Source`."""
        return {"name": self.name, "weights": "random", **_shape(self.config)}


def source_of(options: BenchOptions) -> Source:
    """What `options` ask for, in the first dtype and quantization of theirs."""
    dtype, kind = options.dtype[0], options.quantize[0]
    quantize = None if kind == UNQUANTIZED else QuantKind(kind)
    if options.model_weights is None:
        wide = torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)
        return RandomSource(options.config or "791m", wide, quantize, options.moe_backend)
    kept = None if dtype == "auto" else getattr(torch, dtype)
    return CheckpointSource(options.model_weights, kept, quantize, options.moe_backend)


def _shape(config: ModelConfig) -> dict[str, Any]:
    unused = config.num_layers * (config.num_experts - config.top_k) * config.expert_params
    return {
        "config": asdict(config),
        "num_params": config.num_params,
        "num_active_params": config.num_params - unused,
    }
