"""When steering looks at the load, what it passes on, and what it sets before a step."""

import math
from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.moe import step_choice
from mixtralkit.moe.adaptive import AdaptivePlacement
from mixtralkit.moe.load import ExpertLoad
from mixtralkit.moe.overlap import Overlap
from mixtralkit.moe.placement.plan import Placement, even_split, same_for_all
from mixtralkit.moe.placement.rebalance import Demand
from mixtralkit.moe.shared_load import share_load
from mixtralkit.moe.steering import LOOK_STEPS, LOOK_TOKENS, Steering
from mixtralkit.moe.step_choice import Choice, StepChooser
from mixtralkit.moe.timeline import Timeline
from tests.random_model import TINY, random_model
from tests.ranks import run_ranks
from tests.steered_model import Setup, moved_homes, steer

ALONE = Collectives(None, torch.device("cpu"))
HOME = same_for_all(even_split(4, 1), 2)


class Arranged:
    """The part of an arrangement that is steered."""

    dispatch, top_k = "collective", 2

    def use(self, dispatch: str) -> None:
        self.dispatch = dispatch


class Follower:
    """Notes what an adaptive placement is told; says each time whether something moves."""

    def __init__(self, moves: bool = True) -> None:
        self.placements = HOME
        self.moves = moves
        self.told: list[tuple[Demand, float]] = []

    def look(self, demand_LWE: Demand, tokens_a_step: float) -> bool:
        self.told.append((demand_LWE, tokens_a_step))
        return self.moves


class Chooser:
    """Chooses all-gather in as many parts as rank 0 has tokens, and notes what it is told."""

    def __init__(self) -> None:
        self.placed: list[tuple[Sequence[Placement], Demand | None]] = []

    def place(self, placements: Sequence[Placement], demand_LWE: Demand | None = None) -> None:
        self.placed.append((placements, demand_LWE))

    def choose(self, tokens_W: Sequence[int]) -> Choice:
        return Choice("all_gather", tokens_W[0], 0.0)


def steering_of(load: ExpertLoad, chooser: Any = None, adaptive: Any = None) -> tuple[Steering, Overlap]:
    overlap = Overlap(Timeline())
    steering = Steering(
        control=ALONE,
        load=load,
        arrangement=cast(Any, Arranged()),
        overlap=overlap,
        placements=HOME,
        chooser=cast(StepChooser | None, chooser),
        adaptive=cast(AdaptivePlacement | None, adaptive),
    )
    return steering, overlap


def a_load() -> ExpertLoad:
    return ExpertLoad(2, 4, torch.device("cpu"))


def step(steering: Steering, load: ExpertLoad, tokens: int, expert: int = 0) -> None:
    """A step whose tokens all go to `expert` and the next."""
    steering.before_step([tokens])
    for layer in range(2):
        load.count(layer, torch.tensor([[expert, expert + 1]] * tokens, dtype=torch.int64).view(tokens, 2))


def test_the_load_is_looked_at_after_some_steps() -> None:
    load, follower = a_load(), Follower()
    steering, _ = steering_of(load, adaptive=follower)
    for _ in range(2 * LOOK_STEPS):
        step(steering, load, 3)
    assert len(follower.told) == 1
    step(steering, load, 3)
    assert len(follower.told) == 2
    for demand, tokens in follower.told:
        assert tokens == 3
        # Of 3 tokens, 3 rows for each of two experts.
        assert torch.allclose(torch.tensor(demand), torch.tensor([3.0, 3.0, 0, 0]).expand(2, 1, 4))


def test_the_less_often_the_longer_nothing_moves() -> None:
    """Deciding is Python between two steps; once something moves, looks are frequent again."""
    load, follower = a_load(), Follower(moves=False)
    steering, _ = steering_of(load, adaptive=follower)
    looks = []
    for number in range(1, 24 * LOOK_STEPS):
        before = len(follower.told)
        follower.moves = number > 10 * LOOK_STEPS
        step(steering, load, 3)
        looks += [(number - 1) // LOOK_STEPS] * (len(follower.told) - before)
    assert looks == [1, 3, 7, 15, 16, 17, 18, 19, 20, 21, 22, 23]


def test_what_is_passed_on_is_the_load_of_the_steps_that_have_run() -> None:
    """A prefill for experts 0 and 1, then steps for 2 and 3: the older rows have decayed by the later tokens only."""
    load, follower = a_load(), Follower()
    steering, _ = steering_of(load, adaptive=follower)
    step(steering, load, 2 * LOOK_TOKENS, expert=0)
    step(steering, load, LOOK_TOKENS, expert=2)
    step(steering, load, 1, expert=2)
    first, second = (torch.tensor(demand)[0, 0] for demand, _ in follower.told)
    assert torch.allclose(first, torch.tensor([2.0 * LOOK_TOKENS, 2.0 * LOOK_TOKENS, 0, 0]))
    # The prefill has as many tokens as a half-life: it counts (1 - 1/2) / ln 2 of itself, and the later tokens decay
    # it to 1 / sqrt 2; those count (1 - 1 / sqrt 2) / (ln 2 / 2) of themselves.
    prefill, after = 0.5 / math.log(2) / math.sqrt(2), 0.5 * (1 - 1 / math.sqrt(2)) / (math.log(2) / 2)
    assert (second[0] / second[2]).item() == pytest.approx(prefill / after)


def test_or_after_some_tokens() -> None:
    """Of a large prefill already; then tokens_a_step is its average with nothing else."""
    load, follower = a_load(), Follower()
    steering, _ = steering_of(load, adaptive=follower)
    step(steering, load, LOOK_TOKENS)
    assert follower.told == []
    step(steering, load, 1)
    assert [tokens for _, tokens in follower.told] == [LOOK_TOKENS]
    step(steering, load, 1)
    assert len(follower.told) == 1


def test_what_is_in_force_is_what_was_chosen_and_is_counted() -> None:
    load, chooser = a_load(), Chooser()
    steering, overlap = steering_of(load, chooser=chooser)
    for tokens in (4, 1, 1):
        step(steering, load, tokens)
        assert overlap.chunks == tokens
    assert steering.steps == {("all_gather", 4): 1, ("all_gather", 1): 2}
    for _ in range(LOOK_STEPS):
        step(steering, load, 1)
    ((placements, demand),) = chooser.placed
    assert placements == HOME
    assert demand is not None


def test_the_chooser_hears_of_the_placement_that_the_look_brought() -> None:
    class Mover(Follower):
        def look(self, demand_LWE: Demand, tokens_a_step: float) -> bool:
            self.placements = same_for_all(even_split(4, 1), 2)
            return True

    load, chooser, mover = a_load(), Chooser(), Mover()
    steering, _ = steering_of(load, chooser, mover)
    step(steering, load, LOOK_TOKENS)
    step(steering, load, 1)
    ((placements, _),) = chooser.placed
    assert placements is mover.placements is steering.placements


def test_with_nothing_to_decide_nobody_looks() -> None:
    """No exchange, no decay of the load; the steps are counted for the report all the same."""
    load = a_load()
    steering, _ = steering_of(load)
    for _ in range(3 * LOOK_STEPS):
        step(steering, load, 100)
    assert load.decayed_LE.sum() == 2 * 3 * LOOK_STEPS * 200
    assert steering.steps == {("collective", 1): 3 * LOOK_STEPS}
    assert steering.placements == HOME


def _shared(collectives: Collectives) -> tuple[Demand, Demand]:
    load = ExpertLoad(2, 3, torch.device("cpu"))
    nothing = share_load(collectives, load, 10.0)
    ids = torch.tensor([[0, 1], [0, 2]]) if collectives.rank == 0 else torch.tensor([[1, 2]])
    for layer in range(2):
        load.count(layer, (ids + layer) % 3)
    return nothing, share_load(collectives, load, 12.0)


def test_the_load_of_all_is_known_to_all() -> None:
    """Three tokens made 6 rows, a step has 12: every row counts twice."""
    ranks = run_ranks(2, _shared)
    for nothing, demand in ranks:
        assert nothing == [[[0.0] * 3] * 2] * 2
        assert demand == [[[4.0, 2.0, 2.0], [0.0, 2.0, 2.0]], [[2.0, 4.0, 2.0], [2.0, 0.0, 2.0]]]


def _steps(collectives: Collectives) -> tuple[dict[tuple[str, int], int], list[bool]]:
    """Real steps of a real model, with the numbers of tokens as the engine tells them; small ones may be cut."""
    step_choice._FEWEST_TOKENS = 1
    setup = Setup(("collective", "all_gather"), cuts=(1, 2, 4), placements=moved_homes(TINY, 2))
    steered = steer(random_model(TINY), collectives, setup)
    plain, same = random_model(TINY), []
    generator = torch.Generator().manual_seed(collectives.rank)
    for tokens_W in ([40, 30], [1, 1], [1, 0], *[[2, 2]] * 10, [60, 60]):
        tokens = torch.randint(0, TINY.vocab_size, (1, tokens_W[collectives.rank]), generator=generator)
        steered.steering.before_step(tokens_W)
        with torch.inference_mode():
            same.append(torch.equal(steered.model(tokens), plain(tokens)))
    return dict(steered.steering.steps), same


def test_ranks_choose_alike_and_the_bits_stay() -> None:
    (steps, same), (other_steps, other_same) = run_ranks(2, _steps)
    assert steps == other_steps
    assert len({parts for _, parts in steps}) > 1
    assert all(same)
    assert all(other_same)
