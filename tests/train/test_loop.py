"""The loop learns; an interruption, the micro batches and the number of ranks do not change what it learns."""

import copy
import dataclasses
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mixtralkit.errors import UsageError
from mixtralkit.train.loop import make_optimizer
from mixtralkit.train.schedule import Schedule
from tests.ranks import run_ranks
from tests.train.tiny_training import ALONE, gates, run, run_on_rank, tiny_settings, tiny_trainer


def test_the_loss_falls_from_guessing_to_knowing(tmp_path: Path) -> None:
    """ln(24) is the loss of a model that guesses; a text that counts can be learned in 60 steps."""
    progress = run(tiny_trainer(tmp_path, tiny_settings(60)))
    assert progress[0].loss == pytest.approx(math.log(24), abs=0.1)
    last = progress[-1]
    assert last.held_out is not None
    assert max(last.loss, last.held_out.loss) < 0.5


def test_a_step_is_that_of_a_plain_loop(tmp_path: Path) -> None:
    """One AdamW step written out: whole batch, cross-entropy plus 0.01 of the load-balancing loss, clipped to 1."""
    settings = tiny_settings(60)
    one_step = dataclasses.replace(settings, schedule=Schedule(1e-2, steps=1, warmup=1, decay=0))
    trainer = tiny_trainer(tmp_path, one_step)
    reference = copy.deepcopy(trainer.model)
    (progress,) = run(trainer)

    blocks = trainer._text.batch(0, 8)
    seen: list[torch.Tensor] = []
    for gate in gates(reference):
        gate.register_forward_hook(lambda module, inputs, logits: seen.append(logits))
    loss = F.cross_entropy(reference(blocks.inputs_BT).flatten(0, 1), blocks.targets_BT.flatten())
    halves = [
        [logits[:64], logits[64:]] for logits in seen
    ]  # the loss is taken a micro batch of 4 x 16 tokens at a time
    balance = torch.stack([_balance(half) for layer in halves for half in layer]).mean()
    (loss + 0.01 * balance).backward()
    norm = torch.nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
    optimizer = make_optimizer(reference, one_step)
    optimizer.step()

    # float32 sums in another order: gradients agree to 1e-6, but Adam's first step is the sign of a gradient, so where
    # one is nearly 0 the weights may differ by up to two learning rates; such places must be rare.
    assert progress.loss == pytest.approx(loss.item(), rel=1e-5)
    assert progress.balance_loss == pytest.approx(balance.item(), rel=1e-5)
    assert progress.grad_norm == pytest.approx(norm.item(), rel=1e-4)
    for ours, theirs in zip(trainer.model.parameters(), reference.parameters(), strict=True):
        far = (ours - theirs).abs() > 1e-4
        assert far.float().mean() < 0.02


def _balance(logits_TE: torch.Tensor) -> torch.Tensor:
    """The loss of one gate with 4 experts and top 2, by a loop over the experts."""
    chosen = logits_TE.topk(2).indices
    terms = [(chosen == e).float().mean() * logits_TE.softmax(-1)[:, e].mean() for e in range(4)]
    return 4 * torch.stack(terms).sum()


def test_an_interrupted_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    """Interrupted after step 8, when the state of step 6 is the last one saved; two steps are done again."""
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    straight.mkdir()
    broken.mkdir()
    whole = tiny_trainer(straight, tiny_settings(14))
    progress = run(whole)

    class Interruption(Exception):
        pass

    def interrupt(step: int) -> None:
        if step == 8:
            raise Interruption

    with pytest.raises(Interruption):
        tiny_trainer(broken, tiny_settings(14)).run(lambda p: interrupt(p.step))
    resumed = tiny_trainer(broken, tiny_settings(14))
    rest = run(resumed)

    assert [p.step for p in rest] == list(range(7, 15))
    assert [(p.loss, p.is_best, p.held_out) for p in rest] == [(p.loss, p.is_best, p.held_out) for p in progress[6:]]
    assert rest[0].seconds > progress[0].seconds, "the time before the interruption counts"
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_end_can_be_moved_while_the_rate_is_constant(tmp_path: Path) -> None:
    """Stopped in the plateau of a long training and given another end, it is as if it had that end from the start."""
    moved, meant = tmp_path / "moved", tmp_path / "meant"
    moved.mkdir()
    meant.mkdir()

    class Interruption(Exception):
        pass

    def interrupt(step: int) -> None:
        if step == 6:
            raise Interruption

    with pytest.raises(Interruption):
        tiny_trainer(moved, tiny_settings(50)).run(lambda p: interrupt(p.step))
    first, second = tiny_trainer(moved, tiny_settings(12)), tiny_trainer(meant, tiny_settings(12))
    run(first)
    run(second)
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_finished_training_does_nothing_more(tmp_path: Path) -> None:
    run(tiny_trainer(tmp_path, tiny_settings(6)))
    assert run(tiny_trainer(tmp_path, tiny_settings(6))) == []


def test_held_out_text_is_measured_when_due_and_at_the_end(tmp_path: Path) -> None:
    progress = run(tiny_trainer(tmp_path, tiny_settings(12)))
    assert [p.step for p in progress if p.held_out is not None] == [5, 10, 12]
    best = math.inf
    for step in progress:
        if step.held_out is not None:
            assert step.is_best == (step.held_out.loss < best)
            best = min(best, step.held_out.loss)


def test_ranks_agree_and_learn_what_one_rank_learns(tmp_path: Path) -> None:
    """Both ranks have the same bits. One rank alone forms other micro batches of the same blocks, which changes the
    load-balancing loss a little: after 10 large steps the losses, of about 2.5, are within 0.01.
    """
    (tmp_path / "two").mkdir()
    results = run_ranks(2, run_on_rank, str(tmp_path / "two"), 10)
    assert results[0][:2] == results[1][:2]
    for a, b in zip(results[0][2], results[1][2], strict=True):
        assert torch.equal(a, b)
    alone = run_on_rank(ALONE, str(tmp_path), 10)
    assert results[0][0] == pytest.approx(alone[0], abs=0.01)
    assert results[0][1] == pytest.approx(alone[1], abs=0.01)


def test_a_batch_that_the_ranks_cannot_share_is_refused(tmp_path: Path) -> None:
    class Three:
        rank, size = 0, 3

    with pytest.raises(UsageError, match="8 blocks cannot be shared evenly among 3 ranks"):
        tiny_trainer(tmp_path, tiny_settings(6), Three())  # type: ignore[arg-type]
