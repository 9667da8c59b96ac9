"""The scheduler's rules, one by one."""

from typing import Any

import pytest

from mixtralkit.engine.request import SamplingParams
from mixtralkit.engine.scheduler import Scheduler
from mixtralkit.engine.step_plan import StepPlan, Work, WorkResult
from mixtralkit.errors import UsageError


def scheduler(**chosen: Any) -> Scheduler:
    """One rank with room for everything, unless told otherwise."""
    usual = {"world_size": 1, "num_blocks": 100, "block_size": 4, "running_per_rank": 8, "step_tokens": 64}
    return Scheduler(**{**usual, "context": 200, **chosen})


def add(to: Scheduler, number: int, length: int, *, first: int = 1, max_tokens: int = 50, **chosen: Any) -> None:
    """A prompt of `length` tokens from `first` on, so that prompts of different `first` share nothing."""
    to.add(number, range(first, first + length), SamplingParams(max_tokens=max_tokens), **chosen)


def answer(plan: StepPlan, *, but: tuple[int, ...] = (), finish: Any = None) -> list[WorkResult]:
    """Results of a plan: a token for every request, `but` for those whose prompt goes on."""
    numbers = [item.number for items in plan.work for item in items]
    return [WorkResult(n, 0) if n in but else WorkResult(n, 0, (7,), finish) for n in numbers]


def test_requests_are_spread_by_what_the_ranks_have_to_do() -> None:
    """A long prompt weighs as much as several short ones."""
    world = scheduler(world_size=3)
    for number, length in enumerate((50, 5, 5, 5, 5)):
        add(world, number, length, first=100 * number)
    plan = world.plan()
    assert [admission.rank for admission in plan.admissions] == [0, 1, 2, 1, 2]
    assert plan.tokens_W == (50, 10, 10)


def test_equal_beginnings_are_fed_once_even_in_one_plan() -> None:
    """The first writes what the second reads in the same step, so it comes first; the last token is always fed."""
    world = scheduler()
    for number in (1, 2):
        add(world, number, 12)
    assert world.plan().work == ((Work(1, 12, blocks=(0, 1, 2)), Work(2, 4, skip=8, blocks=(0, 1, 3))),)
    assert (world.cached_tokens(1), world.cached_tokens(2)) == (0, 8)
    assert (world.prefix_queries, world.prefix_hits) == (24, 8)
    assert world.used_blocks == (4,)
    assert world.kv_usage == 4 / 100


def test_a_whole_prompt_is_fed_where_every_token_is_asked_for() -> None:
    """Log probabilities of a prompt need its logits. What it wrote may be shared."""
    world = scheduler()
    add(world, 1, 12)
    add(world, 2, 12, keep_whole_prompt=True)
    add(world, 3, 13)
    assert [(item.skip, item.length) for item in world.plan().work[0]] == [(0, 12), (0, 12), (12, 1)]


def test_a_request_goes_to_the_rank_that_has_its_beginning() -> None:
    """As long as this saves more than the other ranks have less to do."""
    world = scheduler(world_size=2, context=1000, num_blocks=1000, step_tokens=1000)
    add(world, 0, 100, first=500)
    add(world, 1, 300)
    world.take(answer(world.plan()))
    for number in (2, 3):
        add(world, number, 301)
    plan = world.plan()
    assert [(admission.number, admission.rank) for admission in plan.admissions] == [(2, 1), (3, 1)]
    add(world, 4, 5, first=900)
    assert world.plan().admissions[0].rank == 0


def test_prompts_go_on_in_chunks_beside_responses() -> None:
    """Every response gets its token first; chunks end with a block, so that what they fill can be shared."""
    world = scheduler(step_tokens=10)
    add(world, 1, 3)
    first = world.plan()
    add(world, 2, 14, first=100)
    second = world.plan()
    world.take(answer(first))
    third = world.plan()
    assert first.work == ((Work(1, 3, blocks=(0,)),),)
    assert second.work == ((Work(1, 1), Work(2, 8, blocks=(1, 2))),)
    assert third.work == ((Work(1, 1, blocks=(3,)), Work(2, 6, blocks=(4, 5))),)
    world.take(answer(second, but=(2,)))
    assert world.plan().work == ((Work(1, 1), Work(2, 1)),)


def test_a_later_chunk_skips_what_another_has_fed_meanwhile() -> None:
    """Two equal prompts, of which the second follows in the steps of the first."""
    world = scheduler(step_tokens=8)
    for number in (1, 2):
        add(world, number, 21)
    seen = []
    for _ in range(4):
        plan = world.plan()
        seen.append([(item.number, item.skip, item.length) for item in plan.work[0]])
        world.take(answer(plan, but=(1,) if len(seen) < 3 else ()))
    assert seen == [[(1, 0, 8)], [(1, 0, 8)], [(1, 0, 5), (2, 20, 1)], [(1, 0, 1), (2, 0, 1)]]


def test_a_request_without_blocks_goes_and_comes_back_first() -> None:
    """Its response so far stays, and what is in flight is awaited; what it wrote is found again."""
    world = scheduler(num_blocks=6, running_per_rank=2)
    for number in (1, 2, 3):
        add(world, number, 11, first=100 * number, max_tokens=10)
    first = world.plan()
    second = world.plan()  # both have 12 tokens in three blocks now, and there is no seventh
    world.take(answer(first))
    third = world.plan()
    assert third.dropped == (2,)
    assert third.work == ((Work(1, 1, blocks=(5,)),),)
    assert (world.running, world.waiting, world.preemptions) == (1, 2, 1)
    world.take(answer(second))
    world.take(answer(third, finish="eos"))
    plan = world.plan()
    assert [(admission.number, admission.output_tokens) for admission in plan.admissions] == [(2, (7, 7))]
    assert plan.work == ((Work(2, 5, skip=8, blocks=(3, 4, 5, 2)),),)
    assert world.cached_tokens(2) == 0  # when it was admitted first


def test_nothing_is_planned_beyond_the_end_of_a_response() -> None:
    """What is in flight gives one token at least; the last one is never fed."""
    world = scheduler()
    add(world, 1, 4, max_tokens=2)
    first, second, third = world.plan(), world.plan(), None
    assert (first.work, second.work) == (((Work(1, 4, blocks=(0,)),),), ((Work(1, 1, blocks=(1,)),),))
    world.take(answer(first))
    third = world.plan()
    assert not third.has_work
    assert world.running == 1
    world.take(answer(second, finish="length"))
    assert (world.running, world.used_blocks) == (0, (0,))


def test_blocks_are_there_for_every_guess_that_may_be_right() -> None:
    """Two steps of three guesses each, on two known tokens: twelve tokens at most before anything is taken."""
    world = scheduler(drafts=3)
    add(world, 1, 3)
    plans = [world.plan()]
    world.take(answer(plans[0]))
    plans = [world.plan(), world.plan()]
    assert [plan.work[0] for plan in plans] == [(Work(1, 1, 0, 3, (1,)),), (Work(1, 1, 0, 3, (2,)),)]
    world.take([WorkResult(1, 7, (7, 7, 7, 7), proposed=3, accepted=3)])
    world.take([WorkResult(1, 8, (7,), proposed=3, accepted=0)])
    assert world.plan().work == ((Work(1, 1, 0, 3),),)


def test_guesses_leave_half_of_a_step_to_prompts() -> None:
    world = scheduler(drafts=8, step_tokens=12)
    for number in (1, 2):
        add(world, number, 3, first=number * 100)
    world.take(answer(world.plan()))
    add(world, 3, 20)
    assert [(item.length, item.drafts) for item in world.plan().work[0]] == [(1, 3), (1, 3), (4, 0)]


def test_no_guess_is_worth_the_place_of_another_request() -> None:
    """Guesses go first when blocks run out."""
    world = scheduler(num_blocks=3, drafts=3)
    add(world, 1, 3, max_tokens=5)
    add(world, 2, 5, first=100, max_tokens=3)
    world.take(answer(world.plan()))
    assert world.plan().work == ((Work(1, 1), Work(2, 1, drafts=1)),)


def test_smaller_priorities_come_first() -> None:
    """And among equal ones the first that came, however short a later one is."""
    world = scheduler(running_per_rank=1)
    add(world, 0, 5)
    plan = world.plan()
    for number, priority in ((1, 5), (2, 0), (3, -1), (4, 0)):
        add(world, number, 20 - number, priority=priority)
    order = []
    for _ in range(4):
        world.take(answer(plan, finish="eos"))
        plan = world.plan()
        order += [admission.number for admission in plan.admissions]
    assert order == [3, 2, 4, 1]


def test_a_request_that_finds_no_blocks_holds_up_the_next() -> None:
    """Otherwise a stream of short ones would keep it waiting for ever."""
    world = scheduler(num_blocks=6)
    add(world, 1, 16, max_tokens=5)
    add(world, 2, 12, first=100, max_tokens=5)
    add(world, 3, 1, first=200, max_tokens=1)
    plan = world.plan()
    assert [admission.number for admission in plan.admissions] == [1]
    world.take(answer(plan, finish="eos"))
    assert [admission.number for admission in world.plan().admissions] == [2, 3]


def test_a_cancelled_request_is_gone_with_the_next_plan() -> None:
    """Also when a plan with work for it is in flight; its results are nobody's."""
    world = scheduler()
    add(world, 1, 5)
    add(world, 2, 5)
    first, second = world.plan(), world.plan()
    world.cancel(1)
    world.cancel(99)
    assert (world.running, world.waiting) == (1, 0)
    assert [result.number for result in world.take(answer(first))] == [2]
    third = world.plan()
    assert third.dropped == (1,)
    assert [item.number for item in third.work[0]] == [2]
    assert [result.number for result in world.take(answer(second))] == [2]
    world.cancel(2)
    assert world.used_blocks == (0,)
    assert world.plan().dropped == (2,)


def test_who_relied_on_a_failed_request_is_fed_anew() -> None:
    """And its results meanwhile count for nothing; who relied on that one is no better off."""
    world = scheduler(step_tokens=8)
    add(world, 1, 9)
    world.plan()
    for number in (2, 3):
        add(world, number, 9)
    second = world.plan()
    assert [(item.number, item.skip) for item in second.work[0]] == [(1, 0), (2, 8), (3, 8)]
    counted = world.take([WorkResult(1, 0, error="out of memory")])
    assert [result.number for result in counted] == [1]
    third = world.plan()
    assert third.dropped == (2, 3)
    assert not third.has_work  # not before the results in flight are taken
    assert world.take([WorkResult(2, 0, error="nonsense"), WorkResult(3, 0, (7,))]) == []
    for fed in ([(2, 0, 8)], [(2, 0, 1), (3, 8, 1)]):
        plan = world.plan()
        assert [(item.number, item.skip, item.length) for item in plan.work[0]] == fed
        world.take(answer(plan, but=(2,) if len(fed) == 1 else ()))


def test_which_requests_fit() -> None:
    """The last token of a response is never fed, and no request is longer than the context."""
    world = scheduler(num_blocks=3, context=1000)
    assert world.fits(13)
    assert not world.fits(14)
    assert scheduler(num_blocks=3, context=13).fits(10**6)


def test_a_step_must_have_a_token_for_every_request() -> None:
    with pytest.raises(UsageError, match="step of 7 tokens is too short for 8 running requests"):
        scheduler(step_tokens=7)


def test_the_next_turn_of_a_chat_finds_prompt_and_response() -> None:
    """Blocks that a response fills can be found once its tokens are known, to the last one."""
    world = scheduler()
    add(world, 1, 6, max_tokens=7)
    for step in range(7):
        world.take(answer(world.plan(), finish="length" if step == 6 else None))
    world.add(2, [*range(1, 7), *[7] * 7, 50], SamplingParams())
    assert [(item.skip, item.length) for item in world.plan().work[0]] == [(12, 2)]
