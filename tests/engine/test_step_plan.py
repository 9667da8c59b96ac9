"""Plans and results as bytes: the ranks must understand exactly what rank 0 planned, and rank 0 what came of it."""

import json
import string

from hypothesis import given, settings
from hypothesis import strategies as st

from mixtralkit.engine.logprobs import TokenLogprobs
from mixtralkit.engine.request import Grammar, SamplingParams
from mixtralkit.engine.step_plan import (
    Admission,
    StepPlan,
    Work,
    WorkResult,
    results_from_bytes,
    results_to_bytes,
)

numbers = st.integers(0, 2**31)
counts = st.integers(0, 5)
tokens = st.lists(st.integers(0, 2**31), max_size=5).map(tuple)
params = st.builds(
    SamplingParams,
    max_tokens=st.integers(10, 20),
    temperature=st.floats(0, 2),
    seed=st.integers(0, 2**63 - 1),
    stop=st.lists(st.text(min_size=1), max_size=2).map(tuple),
    logit_bias=st.lists(st.tuples(st.integers(0, 99), st.floats(-100, 100)), max_size=2).map(tuple),
    logprobs=st.none() | counts,
    grammar=st.none() | st.text(string.printable, min_size=1).map(lambda text: Grammar("regex", text)),
)
admissions = st.builds(Admission, numbers, counts, tokens, tokens, params)
works = st.builds(Work, numbers, st.integers(1, 9), counts, counts, tokens)
plans = st.builds(
    StepPlan,
    work=st.lists(st.lists(works, max_size=3).map(tuple), max_size=3).map(tuple),
    admissions=st.lists(admissions, max_size=2).map(tuple),
    dropped=tokens,
    closing=st.booleans(),
    wants_state=st.booleans(),
)
logprobs = st.lists(
    st.builds(
        TokenLogprobs,
        numbers,
        st.floats(max_value=0, allow_nan=False),
        st.lists(st.tuples(numbers, st.floats(max_value=0, allow_nan=False)), max_size=2).map(tuple),
    ),
    max_size=2,
).map(tuple)
results = st.builds(
    WorkResult,
    numbers,
    counts,
    tokens,
    st.none() | st.sampled_from(("eos", "length", "error")),
    counts,
    counts,
    logprobs,
    logprobs,
    st.none() | st.text(),
    st.booleans(),
)


@settings(max_examples=100, deadline=None)
@given(plan=plans)
def test_a_plan_comes_back(plan: StepPlan) -> None:
    """Every field, floats with all their digits."""
    back = StepPlan.from_bytes(plan.to_bytes())
    assert back == plan
    assert hash(back) == hash(plan)  # tuples have stayed tuples


@settings(max_examples=100, deadline=None)
@given(given_results=st.lists(results, max_size=3))
def test_results_come_back(given_results: list[WorkResult]) -> None:
    """Minus infinity too, the log probability of what cannot happen."""
    back = results_from_bytes(results_to_bytes(given_results))
    assert back == tuple(given_results)
    assert hash(back) == hash(tuple(given_results))


def test_one_token_of_a_response_takes_few_bytes() -> None:
    """A step's messages hold what differs from the usual, not names and defaults."""
    plan = StepPlan(work=((Work(7, 1), Work(8, 1, blocks=(3,))),))
    assert json.loads(plan.to_bytes())[0] == [[[7, 1], [8, 1, 0, 0, [3]]]]
    assert json.loads(results_to_bytes([WorkResult(7, 30, (5,))])) == [[7, 30, [5]]]
    assert len(StepPlan(((),), (Admission(1, 0, (1, 2)),)).to_bytes()) < 50


def test_tokens_of_a_plan() -> None:
    """Skipped tokens are not fed; guesses may be."""
    plan = StepPlan(work=((Work(1, 5, skip=16), Work(2, 1, drafts=3)), ()))
    assert plan.tokens_W == (9, 0)
    assert plan.has_work
    assert not StepPlan(work=((), ()), dropped=(1,)).has_work


def test_steps_of_single_tokens() -> None:
    """What the ranks agree to run as one recorded step: one token of each request, and nothing guessed behind it."""
    one, two = Work(1, 1), Work(2, 1)
    assert StepPlan(((one, two), ())).most_single_tokens == 2
    assert StepPlan(((one,), (Work(3, 5),))).most_single_tokens is None
    assert StepPlan(((one,), (Work(3, 1, drafts=2),))).most_single_tokens is None
