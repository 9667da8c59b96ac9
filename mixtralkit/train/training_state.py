"""The file from which an interrupted training goes on."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class TrainingState:
    """Weights and optimizer after `step` steps, the best held-out loss so far, and the time spent, in seconds."""

    step: int
    best_loss: float
    seconds: float
    model: dict[str, Any]
    optimizer: dict[str, Any]


def write_state(path: Path, state: TrainingState) -> None:
    """Replace `path` by `state`; a crash leaves either the old file or the new one."""
    partial = path.with_name(path.name + ".partial")
    torch.save(vars(state), partial)
    os.replace(partial, path)


def read_state(path: Path) -> TrainingState:
    """The state in `path`, on the CPU; `load_state_dict` copies it to where the model is."""
    return TrainingState(**torch.load(path, weights_only=True, map_location="cpu"))
