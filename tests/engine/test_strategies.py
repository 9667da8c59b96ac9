"""Strategies change when and where things happen, and nothing of the text: every combination, at every world size."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from mixtralkit.config import ModelConfig
from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology
from mixtralkit.engine.engine import Engine
from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.engine.request import Completion, Request, SamplingParams
from mixtralkit.model.transformer import Transformer
from mixtralkit.moe import adaptive, steering, step_choice
from mixtralkit.moe.placement.hot_experts import replicate_in_layers
from mixtralkit.moe.step_choice import CUTS
from mixtralkit.tokenizer import Tokenizer
from tests.dispatches import SPREAD
from tests.random_model import TINY, random_model
from tests.ranks import run_ranks
from tests.small_tokenizer import PIECES, small_tokenizer
from tests.steered_model import PromptTransfer, Setup, Steered, even_homes, moved_homes, steer

CONFIG = replace(TINY, vocab_size=PIECES, context=40)
FOUR = replace(CONFIG, num_experts=4)
# Small blocks and steps: prompts are fed in pieces, mixed with other requests' tokens, which are still worth a cut.
LIMITS = EngineLimits(batch_size=3, step_tokens=12, block_size=4)
ALONE = Collectives(None, torch.device("cpu"))
OVERLAPS = ("off", "chunks", "groups", "auto")
# More ranks than two take their time on two cores; between them they try every overlap too.
FEW_OVERLAPS = {3: ("groups", "auto"), 4: ("off", "chunks"), 6: ("groups",)}
PLACEMENTS = ("even", "hot", "plan", "adaptive")
LOOK_STEPS = 2  # so that the few steps of these requests see several changes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    small_tokenizer(folder)
    return folder


def requests() -> list[Request]:
    """Greedy and sampled, a long prompt, and ends at different steps."""
    generator = torch.Generator().manual_seed(9)
    prompts = [torch.randint(0, PIECES, (length,), generator=generator).tolist() for length in (24, 2, 7, 1, 9, 3)]
    return [
        Request(tuple(prompt), SamplingParams(max_tokens=7 - number, temperature=float(number % 2), seed=number))
        for number, prompt in enumerate(prompts)
    ]


def completions(
    model: Transformer,
    collectives: Collectives,
    folder: Path,
    before_step: Callable[[Sequence[int]], None] = lambda tokens_W: None,
) -> list[Completion]:
    """Of all requests, without the ranks that worked on them; on rank 0 only."""
    tokenizer = Tokenizer(folder / "tokenizer.model")
    engine = Engine(model=model, tokenizer=tokenizer, control=collectives, limits=LIMITS, before_step=before_step)
    return [replace(completion, rank=0) for completion in engine.generate(requests())]


def overlaps_at(size: int) -> tuple[str, ...]:
    """Those to try with so many ranks."""
    return FEW_OVERLAPS.get(size, OVERLAPS)


def setup_of(config: ModelConfig, size: int, dispatch: str, overlap: str, placement: str) -> Setup:
    """The setup of a combination by its words."""
    even, topology = even_homes(config, size), Topology(tuple(rank // 2 for rank in range(size)))
    cuts = {"off": (1,), "chunks": (3,), "groups": (size,), "auto": CUTS}[overlap]
    homes = {
        "even": even,
        "hot": replicate_in_layers(even, [(None, (1,)), (1, (0, 3))], topology),
        "plan": moved_homes(config, size),
        "adaptive": even,
    }[placement]
    return Setup(
        dispatches=(dispatch,),
        cuts=cuts if size > 1 else (1,),
        group_size=1 if overlap == "groups" else None,
        placements=homes,
        places=3 if placement == "adaptive" else None,
    )


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `answers` sets is set back: with one rank it runs in this process."""
    monkeypatch.setattr(adaptive, "Transfer", adaptive.Transfer)
    monkeypatch.setattr(steering, "LOOK_STEPS", steering.LOOK_STEPS)
    monkeypatch.setattr(step_choice, "_FEWEST_TOKENS", step_choice._FEWEST_TOKENS)
    monkeypatch.setattr(step_choice, "WORTH_IT", step_choice.WORTH_IT)


def answers(collectives: Collectives, folder: Path, config: ModelConfig, names: list[str]) -> dict[Any, Any]:
    """By combination, the completions of a rank and what its steering did."""
    adaptive.Transfer = PromptTransfer  # type: ignore[assignment,misc]
    steering.LOOK_STEPS = LOOK_STEPS
    step_choice._FEWEST_TOKENS, step_choice.WORTH_IT = 1, 1.0  # so that steps of these few tokens are cut
    found = {}
    for combination in product(names, overlaps_at(collectives.size), PLACEMENTS):
        setup = setup_of(config, collectives.size, *combination)
        steered = steer(random_model(config, seed=3), collectives, setup)
        told = completions(steered.model, collectives, folder, steered.steering.before_step)
        found[combination] = told, _deeds(steered)
    return found


def _deeds(steered: Steered) -> dict[str, Any]:
    adapting = steered.steering.adaptive
    return {
        "steps": dict(steered.steering.steps),
        "switches": 0 if adapting is None else adapting.moves.switches,
        "placements": steered.steering.placements,
        "held": {layer: sorted(steered.arrangement.held(layer)) for layer in range(len(steered.model.layers))},
    }


@pytest.mark.parametrize(("size", "config"), [(1, CONFIG), (2, CONFIG), (3, CONFIG), (4, CONFIG), (6, FOUR)])
def test_every_combination_gives_the_same_text(folder: Path, size: int, config: ModelConfig) -> None:
    """Dispatch by overlap by placement, also with more ranks than experts; adaptive ones switch in mid-generation."""
    expected = completions(random_model(config, seed=3), ALONE, folder)
    names = SPREAD if size > 1 else ["local"]
    ranks = run_ranks(size, answers, folder, config, names) if size > 1 else [answers(ALONE, folder, config, names)]
    wrong = {
        (rank, *combination)
        for rank, found in enumerate(ranks)
        for combination, (told, _) in found.items()
        if told != (expected if rank == 0 else [])
    }
    assert not wrong
    assert len(ranks[0]) == len(names) * len(overlaps_at(size)) * len(PLACEMENTS)
    for combination, (_, deeds) in ranks[0].items():
        check_deeds(size, combination, deeds)
        for rank, found in enumerate(ranks):
            own, placements = found[combination][1], deeds["placements"]
            assert (own["steps"], own["placements"]) == (deeds["steps"], placements)
            assert own["held"] == {layer: list(placed.experts_of(rank)) for layer, placed in enumerate(placements)}


def check_deeds(size: int, combination: tuple[str, str, str], deeds: dict[str, Any]) -> None:
    """That the combination was in force, and not the plain run under another name."""
    dispatch, overlap, placement = combination
    assert {name for name, _ in deeds["steps"]} == {dispatch}
    parts = {parts for _, parts in deeds["steps"]}
    if size > 1:
        assert {"off": parts == {1}, "chunks": parts == {3}, "groups": parts == {size}}.get(overlap, max(parts) > 1)
        assert deeds["switches"] >= (1 if placement == "adaptive" else 0)
