"""Responses that follow a grammar, judged by jsonschema and re. The model is random and would write noise."""

import json
import re
import threading
from typing import Any

import jsonschema
import pytest
import torch

from mixtralkit.engine.request import Grammar, SamplingParams
from mixtralkit.engine.sampling import Sampler
from mixtralkit.engine.vocabulary import Vocabulary
from mixtralkit.errors import RequestError
from mixtralkit.tokenizer import Tokenizer
from tests.small_tokenizer import PIECES, small_tokenizer

MOST = 400  # tokens; the grammars below end long before
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "café"]}, "maxItems": 3},
        "boss": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {}, "additionalProperties": False}]},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
NUMBERS = {"type": "array", "items": {"type": "number", "minimum": -1, "maximum": 7}, "minItems": 2, "maxItems": 4}
EXPRESSIONS = (
    r"[a-z]{2,5}( [a-z]{2,5}){1,3}",
    r"(yes|no|perhaps)",
    r" ?\d{3}-[^\d ]{4}",
    r"to be,? or not( to be)?",
    "é{1,4}",
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return small_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    return Vocabulary(tokenizer, PIECES)


def _response(grammar: Grammar, tokenizer: Tokenizer, *, seed: int, spaces: float = 0.0) -> str:
    """The text of a whole response. `spaces` is added to the logits of all tokens that begin with one."""
    generator = torch.Generator().manual_seed(seed)
    bias_V = torch.tensor([spaces * tokenizer.piece(token).startswith("▁") for token in range(PIECES)])
    params = SamplingParams(temperature=1.0, seed=seed, grammar=grammar)
    sampler = Sampler(params, (1,), vocabulary=Vocabulary(tokenizer, PIECES))
    decoder = tokenizer.stream()
    text = ""
    for _ in range(MOST):
        token, _ = sampler.next(torch.randn(PIECES, generator=generator) * 3 + bias_V)
        text += "" if token == tokenizer.eos_id else decoder.push(token)
        if sampler.ended:
            return text + decoder.flush()
    raise AssertionError(f"no end after {MOST} tokens: {text!r}")


@pytest.mark.parametrize("spaces", [0.0, 20.0])  # 20: nearly always a token with a space, where one may come
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_text_matches_the_expression(expression: str, spaces: float, tokenizer: Tokenizer) -> None:
    """All of it, also where the first word's space is not shown."""
    for seed in range(4):
        grammar = Grammar("regex", expression)
        text = _response(grammar, tokenizer, seed=seed, spaces=spaces)
        assert re.fullmatch(expression, text), text


@pytest.mark.parametrize("schema", [PERSON, NUMBERS, {"const": {"a": [1, None, True]}}])
def test_text_is_json_of_the_schema(schema: dict[str, Any], tokenizer: Tokenizer) -> None:
    for seed in range(6):
        grammar = Grammar("json_schema", json.dumps(schema))
        text = _response(grammar, tokenizer, seed=seed, spaces=2.0)
        jsonschema.validate(json.loads(text), schema, cls=jsonschema.Draft202012Validator)


def test_text_is_a_json_object(tokenizer: Tokenizer) -> None:
    """Of any kind. What ends strings, numbers and objects is made likely, as there is no end to a random one."""
    ends = [token for token in range(PIECES) if tokenizer.bytes_of(token) in (b'"', b"}", b"]")]
    bias = tuple((token, 6.0) for token in ends)
    for seed in range(4):
        params = SamplingParams(temperature=1.0, seed=seed, grammar=Grammar("json_object"), logit_bias=bias)
        sampler = Sampler(params, (1,), vocabulary=Vocabulary(tokenizer, PIECES))
        generator = torch.Generator().manual_seed(seed)
        tokens = []
        while not sampler.ended:
            tokens.append(sampler.next(torch.randn(PIECES, generator=generator))[0])
            assert len(tokens) < MOST
        assert isinstance(json.loads(tokenizer.decode([token for token in tokens if token != tokenizer.eos_id])), dict)


@pytest.mark.parametrize("ignore_eos", [False, True])
def test_eos_comes_only_where_the_grammar_may_stop(
    ignore_eos: bool, tokenizer: Tokenizer, vocabulary: Vocabulary
) -> None:
    """Even from a model that wants nothing else; then it ends the response, as nothing can follow it."""
    row_V = torch.zeros(PIECES)
    row_V[tokenizer.eos_id] = 9.0
    params = SamplingParams(grammar=Grammar("regex", "ab{2,9}"), ignore_eos=ignore_eos)
    sampler = Sampler(params, (1,), vocabulary=vocabulary)
    tokens = []
    while not sampler.ended:
        tokens.append(sampler.next(row_V)[0])
    assert tokens[-1] == tokenizer.eos_id
    assert tokenizer.decode(tokens[:-1]) == "abb"


def test_a_forced_end_needs_no_eos(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    sampler = Sampler(SamplingParams(grammar=Grammar("regex", "abb")), (1,), vocabulary=vocabulary)
    tokens = []
    while not sampler.ended:
        tokens.append(sampler.next(torch.zeros(PIECES))[0])
    assert tokenizer.decode(tokens) == "abb"
    assert tokenizer.eos_id not in tokens


def test_control_tokens_are_not_text(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    """An expression that allows any text, even the control tokens' names, allows none of them."""
    logits_V = torch.zeros(PIECES, dtype=torch.float64).numpy()
    vocabulary.grammars.start(Grammar("regex", r"(?s:.)*|<s>|<unk>")).exclude(logits_V)
    excluded = {token for token in range(PIECES) if logits_V[token] < 0}
    assert {tokenizer.bos_id, tokenizer.unk_id} <= excluded
    assert tokenizer.eos_id not in excluded


def test_a_response_that_has_left_the_grammar_is_an_error(vocabulary: Vocabulary) -> None:
    """Never a crash: known tokens come from another rank."""
    with pytest.raises(RequestError, match="grammar cannot be used"):
        Sampler(SamplingParams(grammar=Grammar("regex", "abb")), (1,), (7, 7), vocabulary=vocabulary).next(
            torch.zeros(PIECES)
        )


def test_responses_of_one_grammar_do_not_use_up_each_others_bound(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each text takes the lexer to other states: together they would pass the bound, alone each stays below."""
    monkeypatch.setattr("mixtralkit.engine.guidance.MOST_STATES", 700)
    grammar = Grammar("regex", "(a|b)*a(a|b){12}")
    for seed in range(12):
        sampler = Sampler(SamplingParams(temperature=1.0, seed=seed, grammar=grammar), (1,), vocabulary=vocabulary)
        for _ in range(25):
            if not sampler.ended:
                sampler.next(torch.zeros(PIECES))


def test_threads_may_check_while_others_start(tokenizer: Tokenizer) -> None:
    """Requests are checked where they arrive, and begun where the engine runs."""
    vocabulary = Vocabulary(tokenizer, PIECES)
    grammars = [Grammar("regex", f"a{{{count}}}") for count in (1, 2)]
    failures: list[BaseException] = []

    def check(grammar: Grammar) -> None:
        try:
            vocabulary.grammars.check(grammar)
        except RequestError as error:
            failures.append(error)

    threads = [threading.Thread(target=check, args=(grammar,)) for grammar in grammars]
    for thread in threads:
        thread.start()
    for grammar in grammars:
        sampler = Sampler(SamplingParams(grammar=grammar), (1,), vocabulary=vocabulary)
        sampler.next(torch.zeros(PIECES))
    for thread in threads:
        thread.join()
    assert failures == []
