"""An interrupted generation ends on every rank in the same step, with what there was until then."""

from dataclasses import replace
from pathlib import Path

from mixtralkit.dist.collectives import Collectives
from mixtralkit.engine.engine import Engine
from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.engine.request import Completion, Request, SamplingParams
from mixtralkit.tokenizer import Tokenizer
from tests.random_model import TINY, random_model, spread
from tests.ranks import run_ranks
from tests.small_tokenizer import PIECES, small_tokenizer

CONFIG = replace(TINY, vocab_size=PIECES)
STEPS = 4


def _interrupted(collectives: Collectives, folder: Path) -> tuple[list[Completion], list[Completion], list[str]]:
    """What rank 0 stops in its fourth step, and the same requests left alone; also the steps that were begun."""
    model = random_model(CONFIG, seed=3)
    spread(model, "collective", collectives)
    steps: list[str] = []
    tokenizer = Tokenizer(folder / "tokenizer.model")
    engine = Engine(
        model=model, tokenizer=tokenizer, control=collectives, limits=EngineLimits(batch_size=1), on_step=steps.append
    )
    requests = [Request((1, 50 + number), SamplingParams(max_tokens=9)) for number in range(collectives.size + 1)]
    stopped = engine.generate(requests, interrupted=lambda: collectives.rank == 0 and len(steps) == STEPS)
    return stopped, engine.generate(requests), steps[: STEPS + 1]


def test_all_ranks_stop_in_the_same_step(tmp_path: Path) -> None:
    """A rank has one place, so the last of three requests has not begun and has no completion. One step more runs: it
    was planned before, and nobody is told what came of it.
    """
    small_tokenizer(tmp_path)
    ranks = run_ranks(2, _interrupted, tmp_path)
    for _, _, steps in ranks:
        assert steps == ["prefill step 1", *(f"decode step {step}" for step in range(1, STEPS + 1))]
    stopped, whole, _ = ranks[0]
    assert [completion.finish_reason for completion in stopped] == ["interrupted"] * 2
    assert [completion.tokens for completion in stopped] == [whole[number].tokens[:STEPS] for number in range(2)]
    assert all(whole[number].text.startswith(completion.text.rstrip("�")) for number, completion in enumerate(stopped))
    assert ranks[1][:2] == ([], [])
