"""The sampler: its tokens' shares against the definition, what it refuses, and that only row, past and seed decide."""

from dataclasses import replace

import pytest
import torch

from mixtralkit.engine.request import Grammar, SamplingParams
from mixtralkit.engine.sampling import Sampler
from mixtralkit.engine.vocabulary import Vocabulary
from mixtralkit.errors import RequestError
from tests.engine import plain_sampling
from tests.small_tokenizer import PIECES, small_tokenizer

DRAWS = 3000
PROMPT = (1, 40, 41, 41)
OUTPUT = (42, 40, 42)
EOS = 2
WITH_ALL = SamplingParams(
    temperature=0.8,
    top_p=0.95,
    top_k=60,
    min_p=0.01,
    min_tokens=20,
    stop_token_ids=(43,),
    repetition_penalty=1.3,
    presence_penalty=0.4,
    frequency_penalty=0.2,
    logit_bias=((44, 1.0), (45, -2.0)),
    logprobs=2,
)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    vocabulary = Vocabulary(small_tokenizer(tmp_path_factory.mktemp("tokenizer")), PIECES)
    assert vocabulary.eos_id == EOS
    return vocabulary


def _rows(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, PIECES, generator=torch.Generator().manual_seed(seed)) * 2


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=1.0),
        SamplingParams(temperature=0.7, top_p=0.8),
        SamplingParams(temperature=1.5, top_k=10, min_p=0.1),
        SamplingParams(temperature=1.0, min_tokens=4, stop_token_ids=(43, 44), logit_bias=((EOS, 9.0), (43, 9.0))),
        SamplingParams(temperature=1.0, min_tokens=3, logit_bias=((EOS, 3.0),)),  # there are 3 tokens: EOS may come
        SamplingParams(temperature=1.0, min_tokens=4, ignore_eos=True, logit_bias=((EOS, 3.0),)),  # and may always
        replace(WITH_ALL, min_tokens=0),
    ],
)
def test_shares(params: SamplingParams, vocabulary: Vocabulary) -> None:
    """Of the fourth token, by many seeds. With 3000 draws a share's standard deviation is below 0.0092.

    Four of them are allowed; tokens that may not come, never do.
    """
    row_V = _rows(1)[0]
    excluded = {*params.stop_token_ids, *(() if params.ignore_eos else (EOS,))} if params.min_tokens > 3 else set()
    changed = plain_sampling.changed(row_V.tolist(), params, PROMPT, OUTPUT)
    expected = plain_sampling.shares(changed, params, excluded)
    counts = torch.zeros(PIECES)
    for seed in range(DRAWS):
        counts[Sampler(replace(params, seed=seed), PROMPT, OUTPUT, vocabulary=vocabulary).next(row_V)[0]] += 1
    assert set(counts.nonzero().flatten().tolist()) <= set(expected)
    expected_V = torch.tensor([expected.get(token, 0.0) for token in range(PIECES)])
    torch.testing.assert_close(counts / DRAWS, expected_V, atol=0.037, rtol=0)


def test_greedy_takes_the_likeliest(vocabulary: Vocabulary) -> None:
    """Whatever narrows a choice; of equal ones the smallest id."""
    row_V = torch.zeros(PIECES)
    row_V[[9, 7]] = 3.0
    sampler = Sampler(SamplingParams(top_k=3, top_p=0.1, min_p=0.5), PROMPT, vocabulary=vocabulary)
    assert sampler.next(row_V) == (7, None)


def test_greedy_with_penalties_and_bias(vocabulary: Vocabulary) -> None:
    rows = _rows(30)
    params = replace(WITH_ALL, temperature=0.0)
    sampler = Sampler(params, PROMPT, vocabulary=vocabulary)
    output: list[int] = []
    for row_V in rows:
        changed = plain_sampling.changed(row_V.tolist(), params, PROMPT, output)
        early = {EOS, 43} if len(output) < params.min_tokens else set()
        expected = max((token for token in range(PIECES) if token not in early), key=lambda token: changed[token])
        output.append(sampler.next(row_V)[0])
        assert output[-1] == expected


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=1.0, seed=3),
        SamplingParams(),
        replace(WITH_ALL, seed=5),
        SamplingParams(temperature=1.0, grammar=Grammar("regex", "[a-z ]{40}")),
    ],
)
def test_a_preempted_request_goes_on_as_it_would_have(params: SamplingParams, vocabulary: Vocabulary) -> None:
    rows = _rows(16)
    whole = Sampler(params, PROMPT, vocabulary=vocabulary)
    expected = [whole.next(row_V) for row_V in rows]
    for known in (0, 1, 9):
        output = [token for token, _ in expected[:known]]
        rest = Sampler(params, PROMPT, output, vocabulary=vocabulary)
        assert [rest.next(row_V) for row_V in rows[known:]] == expected[known:]


def test_the_seed_decides(vocabulary: Vocabulary) -> None:
    """The same seed gives the same draws, another one does not; and draws of one seed differ by place."""

    def drawn(seed: int) -> list[int]:
        sampler = Sampler(SamplingParams(temperature=1.0, seed=seed), PROMPT, vocabulary=vocabulary)
        return [sampler.next(row_V)[0] for row_V in _rows(1).expand(30, -1)]

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)
    assert len(set(drawn(3))) > 1


def test_logprobs_are_the_models_own(vocabulary: Vocabulary) -> None:
    """Before bias, penalties, temperature and grammar, which decide on the token all the same."""
    row_V = _rows(1)[0]
    kept_V = row_V.clone()
    expected_V = torch.log_softmax(row_V.double(), dim=0)
    token, told = Sampler(WITH_ALL, PROMPT, vocabulary=vocabulary).next(row_V)
    assert told is not None
    assert told.token == token
    assert told.logprob == pytest.approx(float(expected_V[token]), rel=1e-13)
    assert [other for other, _ in told.top] == expected_V.topk(2).indices.tolist()
    assert torch.equal(row_V, kept_V)


@pytest.mark.parametrize("params", [SamplingParams(), SamplingParams(temperature=1.0), WITH_ALL])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rows_that_are_no_numbers_are_refused(params: SamplingParams, value: float, vocabulary: Vocabulary) -> None:
    """One of them is enough: with it no share means anything."""
    row_V = _rows(1)[0]
    row_V[EOS] = value
    with pytest.raises(RequestError, match="logits are no finite numbers"):
        Sampler(params, PROMPT, vocabulary=vocabulary).next(row_V)
    with pytest.raises(RequestError, match="logits are no finite numbers"):
        Sampler(params, PROMPT, vocabulary=vocabulary).next(torch.full((PIECES,), float("-inf")))


def test_a_token_must_be_left(vocabulary: Vocabulary) -> None:
    """The grammar allows "a", which is a stop token that may not come yet."""
    a = _token(vocabulary, "a")
    params = SamplingParams(min_tokens=1, stop_token_ids=a, grammar=Grammar("regex", "a"))
    with pytest.raises(RequestError, match="no token may come next"):
        Sampler(params, PROMPT, vocabulary=vocabulary).next(_rows(1)[0])


def _token(vocabulary: Vocabulary, text: str) -> tuple[int, ...]:
    """All tokens that may begin a response `text`."""
    logits_V = _rows(1)[0].double().numpy()
    vocabulary.grammars.start(Grammar("regex", text)).exclude(logits_V)
    return tuple(torch.from_numpy(logits_V).isfinite().nonzero().flatten().tolist())
