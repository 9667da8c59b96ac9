"""A training small enough for a test: a text with a rule to learn, a tiny model, and a run of a few steps."""

from pathlib import Path

import torch

from mixtralkit.config import ModelConfig
from mixtralkit.dist.collectives import Collectives
from mixtralkit.model.linear_layer import Linear
from mixtralkit.model.transformer import Transformer
from mixtralkit.train.data import ShuffledText, held_out_batches
from mixtralkit.train.initialise import initialise
from mixtralkit.train.loop import Progress, Trainer, TrainSettings
from mixtralkit.train.schedule import Schedule

SHAPE = ModelConfig(
    vocab_size=24,
    dim=16,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    hidden_dim=16,
    num_experts=4,
    top_k=2,
    context=16,
)
BLOCK = 16
ALONE = Collectives(None, torch.device("cpu"))


def counting_text(tokens: int) -> torch.Tensor:
    """3, 4, ... 23, 3, ...: after a few steps a model can know what comes next."""
    return 3 + torch.arange(tokens) % 21


def tiny_settings(steps: int, micro_batch: int = 4) -> TrainSettings:
    """Eight blocks a step; measured every fifth step and saved every third."""
    schedule = Schedule(peak=1e-2, steps=steps, warmup=2, decay=4)
    return TrainSettings(schedule, batch=8, micro_batch=micro_batch, evaluate_every=5, save_every=3)


def tiny_trainer(folder: Path, settings: TrainSettings, collectives: Collectives = ALONE) -> Trainer:
    """A trainer of a fresh tiny model, which goes on with what is in `folder`."""
    model = Transformer(SHAPE)
    initialise(model, seed=0)
    return Trainer(
        model=model,
        settings=settings,
        text=ShuffledText(counting_text(1000), BLOCK, bos_id=1, seed=0),
        held_out=held_out_batches(counting_text(100), BLOCK, bos_id=1, size=2),
        state_file=folder / "state.pth",
        collectives=collectives,
    )


def run(trainer: Trainer) -> list[Progress]:
    """All steps' progress."""
    steps: list[Progress] = []
    trainer.run(steps.append)
    return steps


def run_on_rank(
    collectives: Collectives, folder: str, steps: int
) -> tuple[list[float], list[float], list[torch.Tensor]]:
    """What each rank sees: losses, held-out losses, and its weights afterwards."""
    trainer = tiny_trainer(Path(folder), tiny_settings(steps), collectives)
    progress = run(trainer)
    held_out = [p.held_out.loss for p in progress if p.held_out is not None]
    return [p.loss for p in progress], held_out, [weight.detach() for weight in trainer.model.parameters()]


def gates(model: Transformer) -> list[Linear]:
    """The gate of each layer."""
    found = [model.get_submodule(f"layers.{layer}.feed_forward.gate") for layer in range(model.config.num_layers)]
    return [gate for gate in found if isinstance(gate, Linear)]
