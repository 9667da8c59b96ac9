"""The training loop: from token blocks to better weights, interruptible at any time."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from mixtralkit.dist.collectives import Collectives
from mixtralkit.errors import UsageError
from mixtralkit.model.transformer import Transformer
from mixtralkit.train.data import Blocks, ShuffledText
from mixtralkit.train.data_parallel import average_gradients, sum_over_ranks
from mixtralkit.train.evaluate import Evaluation, evaluate
from mixtralkit.train.load_balance import GateWatch, load_balance_loss
from mixtralkit.train.schedule import Schedule
from mixtralkit.train.training_state import TrainingState, read_state, write_state


@dataclass(frozen=True)
class TrainSettings:
    """How to train.

    `batch` blocks make a step; the ranks share them, and each runs `micro_batch` at a time. `balance` weighs the
    load-balancing loss, `clip` is the largest norm of the gradient. The held-out text is measured every
    `evaluate_every` steps and the state saved every `save_every`.
    """

    schedule: Schedule
    batch: int
    micro_batch: int
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    balance: float = 0.01
    evaluate_every: int = 200
    save_every: int = 100


@dataclass(frozen=True)
class Progress:
    """Where a training is after `step` steps and `seconds`.

    The losses are the means over the step's batch; `held_out` is there when the held-out text was measured, and
    `is_best` when that was better than ever before.
    """

    step: int
    seconds: float
    loss: float
    balance_loss: float
    learning_rate: float
    grad_norm: float
    held_out: Evaluation | None
    is_best: bool


class Trainer:
    """Trains `model` in place on `text`, and keeps all it needs to go on in the file `state_file`.

    When that file is there already, the training goes on where it stands, as if it had never been interrupted. Every
    rank has the whole model; `collectives` are the ranks among which each batch is shared.
    """

    def __init__(
        self,
        *,
        model: Transformer,
        settings: TrainSettings,
        text: ShuffledText,
        held_out: Sequence[Blocks],
        state_file: Path,
        collectives: Collectives,
    ) -> None:
        if settings.batch % collectives.size:
            raise UsageError(
                f"a batch of {settings.batch} blocks cannot be shared evenly among {collectives.size} ranks; "
                f"use a number of ranks that divides it"
            )
        self.model = model
        self._settings = settings
        self._text = text
        self._held_out = held_out
        self._state_file = state_file
        self._collectives = collectives
        self._optimizer = make_optimizer(model, settings)
        self._step, self._best_loss, self._seconds = 0, float("inf"), 0.0
        if state_file.is_file():
            self._restore()

    def run(self, on_step: Callable[[Progress], None]) -> None:
        """Train up to the schedule's last step. `on_step` is called after every step and may look at the model."""
        while self._step < self._settings.schedule.steps:
            began = time.monotonic()
            rate = self._settings.schedule.rate(self._step)
            loss, balance_loss, grad_norm = self._train_step(rate)
            self._step += 1
            held_out = self._measure() if self._is_time(self._settings.evaluate_every) else None
            is_best = held_out is not None and held_out.loss < self._best_loss
            if held_out is not None and is_best:
                self._best_loss = held_out.loss
            self._seconds += time.monotonic() - began
            on_step(Progress(self._step, self._seconds, loss, balance_loss, rate, grad_norm, held_out, is_best))
            if self._is_time(self._settings.save_every) and self._collectives.rank == 0:
                self._save()

    def _is_time(self, every: int) -> bool:
        return self._step % every == 0 or self._step == self._settings.schedule.steps

    def _measure(self) -> Evaluation:
        return evaluate(self.model, self._held_out, self._collectives)

    def _train_step(self, learning_rate: float) -> tuple[float, float, float]:
        """Returns the loss, the load-balancing loss and the norm of the gradient."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        loss, balance_loss = self._accumulate()
        average_gradients(self._collectives, self.model.parameters())
        grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._settings.clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=False)
        return loss, balance_loss, float(grad_norm)

    def _accumulate(self) -> tuple[float, float]:
        """Add up the gradients of this rank's micro batches; returns both losses, means over all ranks."""
        ranks = self._collectives
        blocks = self._text.batch(self._step, self._settings.batch).share(ranks.rank, ranks.size)
        losses = torch.zeros(2, dtype=torch.float64)
        with GateWatch(self.model) as watch:
            for part in blocks.split(self._settings.micro_batch):
                share = part.targets_BT.shape[0] / blocks.targets_BT.shape[0]
                loss = F.cross_entropy(self.model(part.inputs_BT).flatten(0, 1), part.targets_BT.flatten())
                balance_loss = load_balance_loss(watch.take(), self.model.config.top_k)
                torch.autograd.backward((loss + self._settings.balance * balance_loss) * share)
                losses += torch.tensor([loss.item(), balance_loss.item()], dtype=torch.float64) * share
        loss_mean, balance_mean = (sum_over_ranks(ranks, losses) / ranks.size).tolist()
        return loss_mean, balance_mean

    def _save(self) -> None:
        model, optimizer = self.model.state_dict(), self._optimizer.state_dict()
        write_state(self._state_file, TrainingState(self._step, self._best_loss, self._seconds, model, optimizer))

    def _restore(self) -> None:
        state = read_state(self._state_file)
        self.model.load_state_dict(state.model)
        self._optimizer.load_state_dict(state.optimizer)
        self._step, self._best_loss, self._seconds = state.step, state.best_loss, state.seconds


def make_optimizer(model: Transformer, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW (arXiv:1711.05101); the weights of norms do not decay."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.schedule.peak, betas=settings.betas, fused=True)
