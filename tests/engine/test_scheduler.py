"""The scheduler on simulated ranks: random requests, cancellations, failures and guesses."""

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.scheduled import Job, Scheduled
from tests.engine.simulated_ranks import TOKENS, response

MOST_STEPS = 3000  # far more than any of the cases below needs
FAMILIES = tuple(tuple(Random(family).choices(TOKENS, k=30)) for family in range(2))  # equal beginnings of prompts

prompts = st.builds(
    lambda family, shared, own: FAMILIES[family][:shared] + tuple(own),
    st.integers(0, 1),
    st.integers(1, 24),
    st.lists(st.sampled_from(TOKENS), max_size=5),
)
jobs = st.builds(
    Job,
    prompt=prompts,
    max_tokens=st.integers(1, 12),
    priority=st.integers(-1, 1),
    comes=st.integers(0, 15),
    cancelled=st.none() | st.none() | st.integers(0, 40),
    whole_prompt=st.sampled_from((False, False, False, True)),
)
options = st.fixed_dictionaries(
    {
        "world_size": st.integers(1, 3),
        "num_blocks": st.integers(1, 24),
        "block_size": st.sampled_from((1, 2, 4, 8)),
        "context": st.integers(8, 40),
        "running_per_rank": st.integers(1, 5),
        "step_tokens": st.integers(5, 30),
        "drafts": st.integers(0, 4),
        "reuse_prefixes": st.booleans(),
    }
)


def run(cases: list[Job], random: Random, **chosen: Any) -> Scheduled:
    """All of `cases` from their coming to their end; when results are taken, and so how far plans are ahead, varies."""
    world = Scheduled(**chosen)
    due = {
        number: job
        for number, job in enumerate(cases)
        if len(job.prompt) < chosen["context"] and world.scheduler.fits(len(job.prompt) + job.max_tokens)
    }
    for step in range(MOST_STEPS):
        for number in [number for number, job in due.items() if job.comes <= step]:
            world.add(number, due.pop(number))
        world.step()
        while world.untaken == 2 or (world.untaken and random.random() < 0.3):
            world.take()
        for number, job in enumerate(cases):
            if job.cancelled == step:
                due.pop(number, None)
                world.cancel(number)
        if not due and not world.live:
            break
    while world.untaken:
        world.take()
    return world


@settings(max_examples=300, deadline=None)
@given(cases=st.lists(jobs, min_size=1, max_size=12), chosen=options, random=st.integers(0, 999).map(Random))
def test_every_request_ends_with_its_own_response(cases: list[Job], chosen: dict[str, Any], random: Random) -> None:
    """Whatever is shared, preempted, guessed or cancelled beside it; and no block is in use in the end."""
    world = run(cases, random, **chosen)
    assert not world.live
    assert set(world.scheduler.used_blocks) == {0}
    assert (world.scheduler.waiting, world.scheduler.running) == (0, 0)
    for number, seen in world.ended.items():
        job = cases[number]
        expected = response(job.prompt, min(len(job.prompt) + job.max_tokens, chosen["context"]))
        assert seen.output == (expected if job.cancelled is None else expected[: len(seen.output)])


@settings(max_examples=200, deadline=None)
@given(
    cases=st.lists(jobs, min_size=2, max_size=10),
    failing=st.sets(st.integers(0, 9), min_size=1, max_size=3),
    chosen=options,
    random=st.integers(0, 999).map(Random),
)
def test_a_failure_spoils_no_other_request(
    cases: list[Job], failing: set[int], chosen: dict[str, Any], random: Random
) -> None:
    """A request that fails may have written nothing, even where others have been told to read."""
    cases = [Job(**{**vars(job), "fails": number in failing, "cancelled": None}) for number, job in enumerate(cases)]
    world = run(cases, random, **chosen)
    assert not world.live
    assert set(world.scheduler.used_blocks) == {0}
    for number, seen in world.ended.items():
        job = cases[number]
        assert (seen.error is not None) == job.fails
        if not job.fails:
            assert seen.output == response(job.prompt, min(len(job.prompt) + job.max_tokens, chosen["context"]))
