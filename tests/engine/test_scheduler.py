"""The scheduler on simulated ranks: random requests, cancellations, failures and guesses."""

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.scheduled import Job, Scheduled
from tests.engine.simulated_ranks import TOKENS, response

MOST_STEPS = 3000  # far more than any of the cases below needs
CONTEXT = 30
SHARED = tuple(Random(0).choices(TOKENS, k=CONTEXT))  # what prompts begin with, more or less of it

prompts = st.builds(
    lambda shared, own: (SHARED[:shared] + tuple(own))[: CONTEXT - 1],
    st.integers(1, 8) | st.integers(1, CONTEXT - 1),
    st.lists(st.sampled_from(TOKENS), max_size=5),
)


def jobs(**chosen: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Job]]:
    """Requests that come soon after one another, so that they meet; most do as `Job` does by default."""
    job = st.builds(
        Job,
        prompt=prompts,
        max_tokens=st.integers(1, 20),
        priority=st.sampled_from((0, 0, 0, 1, -1)),
        comes=st.integers(0, 6),
        whole_prompt=st.sampled_from((False, False, False, True)),
        **chosen,
    )
    return st.lists(job, min_size=3, max_size=12)


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    """Ranks with hardly more blocks than one request of the whole context needs, and now and then with plenty."""
    block_size = draw(st.sampled_from((1, 2, 4, 8)))
    spare = draw(st.sampled_from((0, 0, 1, 2, 4, 100)))
    return {
        "world_size": draw(st.integers(1, 3)),
        "num_blocks": -(-(CONTEXT - 1) // block_size) + spare,
        "block_size": block_size,
        "context": CONTEXT,
        "running_per_rank": draw(st.integers(1, 5)),
        "step_tokens": draw(st.integers(5, 40)),
        "drafts": draw(st.sampled_from((0, 0, 1, 2, 4))),
        "reuse_prefixes": draw(st.sampled_from((True, True, False))),
    }


def run(cases: list[Job], random: Random, chosen: dict[str, Any]) -> Scheduled:
    """All of `cases` from their coming to their end; when results are taken, and so how far plans are ahead, varies."""
    world = Scheduled(**chosen)
    for step in range(MOST_STEPS):
        for number, job in enumerate(cases):
            if job.comes == step:
                world.add(number, job)
        world.step()
        while world.untaken == 2 or (world.untaken and random.random() < 0.3):
            world.take()
        for number, job in enumerate(cases):
            if job.cancelled == step:
                world.cancel(number)
        if step > max(job.comes for job in cases) and not world.live:
            break
    while world.untaken:
        world.take()
    assert not world.live
    assert set(world.scheduler.used_blocks) == {0}
    assert (world.scheduler.waiting, world.scheduler.running) == (0, 0)
    return world


def expected(job: Job) -> list[int]:
    """What a request gives if nothing happens to it."""
    return response(job.prompt, min(len(job.prompt) + job.max_tokens, CONTEXT))


@settings(max_examples=150, deadline=None)
@given(
    cases=jobs(cancelled=st.sampled_from((None, None, None, 5, 9, 15, 30))),
    chosen=worlds(),
    random=st.integers(0, 999).map(Random),
)
def test_every_request_ends_with_its_own_response(cases: list[Job], chosen: dict[str, Any], random: Random) -> None:
    """Whatever is shared, preempted, guessed or cancelled beside it; and no block is in use in the end."""
    for number, seen in run(cases, random, chosen).ended.items():
        whole = expected(cases[number])
        assert seen.output == (whole if cases[number].cancelled is None else whole[: len(seen.output)])


@settings(max_examples=150, deadline=None)
@given(
    cases=jobs(fails=st.sampled_from((None, None, 0, 0, 1, 2))), chosen=worlds(), random=st.integers(0, 999).map(Random)
)
def test_a_failure_spoils_no_other_request(cases: list[Job], chosen: dict[str, Any], random: Random) -> None:
    """A request that fails may have written nothing, even where others have been told to read."""
    for number, seen in run(cases, random, chosen).ended.items():
        whole = expected(cases[number])
        if cases[number].fails is None:
            assert (seen.output, seen.error) == (whole, None)
        else:
            assert seen.output == whole[: len(seen.output)]
