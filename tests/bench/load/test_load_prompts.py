"""Random requests: their lengths, what they share, and what the seed decides."""

from dataclasses import replace

from mixtralkit.bench.load.load_plan import Endpoint, LoadPlan, Span
from mixtralkit.bench.load.load_prompts import WORDS, load_requests, nonsense, warm_up_requests

PLAN = LoadPlan(
    endpoint=Endpoint.COMPLETIONS,
    requests=200,
    input_tokens=Span(3, 6),
    output_tokens=Span(2, 4),
    shared_prefix=0,
    warm_up=5,
    rate=None,
    concurrency=4,
    seed=1,
    deadline=None,
)
IDS = range(3, 1000)


def test_lengths_take_every_value_of_their_range() -> None:
    requests = load_requests(PLAN, IDS)
    assert len(requests) == 200
    assert {len(request.prompt) for request in requests} == {3, 4, 5, 6}
    assert {request.output_tokens for request in requests} == {2, 3, 4}
    assert {len(request.prompt) for request in load_requests(replace(PLAN, input_tokens=Span(7, 7)), IDS)} == {7}


def test_ids_are_of_the_pool_and_words_are_joined() -> None:
    drawn = {token for request in load_requests(PLAN, IDS) for token in request.prompt}
    assert drawn <= set(IDS)
    assert len(drawn) > 400  # of 997, of some 900 draws: about 590
    for request in load_requests(PLAN, WORDS):
        assert isinstance(request.prompt, str)
        assert 3 <= len(request.prompt.split(" ")) <= 6
        assert set(request.prompt.split(" ")) <= set(WORDS)


def test_the_prefix_goes_before_all_and_the_rest_differs() -> None:
    requests = load_requests(replace(PLAN, shared_prefix=50), IDS)
    (prefix,) = {request.prompt[:50] for request in requests}
    assert len(prefix) == 50
    assert len({request.prompt[50:] for request in requests}) == 200
    more = load_requests(replace(PLAN, shared_prefix=50, requests=3), IDS)
    assert {request.prompt[:50] for request in more} == {prefix}


def test_requests_that_warm_up_share_nothing_with_those_that_count() -> None:
    plan = replace(PLAN, shared_prefix=50)
    warm = warm_up_requests(plan, IDS)
    assert len(warm) == 5
    assert len({request.prompt[:50] for request in warm}) == 1
    assert warm[0].prompt[:50] != load_requests(plan, IDS)[0].prompt[:50]


def test_the_seed_decides() -> None:
    assert load_requests(PLAN, IDS) == load_requests(PLAN, IDS)
    assert load_requests(PLAN, IDS) != load_requests(replace(PLAN, seed=2), IDS)
    assert nonsense(10, 1) == nonsense(10, 1) != nonsense(10, 2)


def test_words_are_different_and_many() -> None:
    assert len(set(WORDS)) == len(WORDS) > 200
