"""The scheduler, driven by random events."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mixtralkit.engine.scheduler import Scheduler

PREFILL_TOKENS = 50


@settings(max_examples=200, deadline=None)
@given(
    jobs=st.lists(st.tuples(st.integers(1, 80), st.integers(1, 6)), min_size=1, max_size=25),
    world_size=st.integers(1, 5),
    slots=st.integers(1, 4),
)
def test_every_request_runs_to_its_end_in_a_slot_of_its_own(
    jobs: list[tuple[int, int]], world_size: int, slots: int
) -> None:
    """Each of the jobs (prompt length, tokens to make) is prefilled once and then stepped until it is done."""
    scheduler = Scheduler(
        [length for length, _ in jobs], world_size=world_size, slots_per_rank=slots, prefill_tokens=PREFILL_TOKENS
    )
    made = [0] * len(jobs)
    order = []
    while step := scheduler.next_step():
        working = [number for work in step.work for number in work]
        assert working
        assert len(step.work) == world_size
        assert step.longest == max(map(len, step.work)) <= slots
        running = [number for number, (_, tokens) in enumerate(jobs) if 0 < made[number] < tokens]
        if step.prefill:
            assert all(made[number] == 0 for number in working)
            order += sorted(working)
            for work in step.work:
                assert len(work) <= 1 or sum(jobs[number][0] for number in work) <= PREFILL_TOKENS
        else:
            assert sorted(working) == running
        places = [scheduler.place(number) for number in {*running, *working}]
        assert len(set(places)) == len(places)
        for number in working:
            made[number] += 1
            if made[number] == jobs[number][1]:
                scheduler.finish(number)
    assert made == [tokens for _, tokens in jobs]
    assert order == sorted(order)  # first come, first served


def test_requests_are_spread_evenly() -> None:
    """Five on three ranks: 2, 2, 1."""
    step = Scheduler([4] * 5, world_size=3, slots_per_rank=4, prefill_tokens=100).next_step()
    assert step is not None
    assert step.work == ((0, 3), (1, 4), (2,))


def test_a_prompt_beyond_the_budget_goes_alone() -> None:
    """Otherwise it would wait for ever."""
    step = Scheduler([500, 3], world_size=1, slots_per_rank=4, prefill_tokens=100).next_step()
    assert step is not None
    assert step.work == ((0,),)
