"""What llguidance is told of Mixtral's tokenizers."""

import json
from contextlib import suppress
from importlib import resources
from pathlib import Path

import pytest

from mixtralkit.engine.guidance import ByteTokens, SentencepieceTokens, compile_grammar, guidance_tokenizer
from mixtralkit.engine.request import Grammar
from mixtralkit.errors import RequestError
from mixtralkit.tokenizer import Tokenizer
from tests.small_tokenizer import small_tokenizer

pytest.importorskip("mistral_common", reason="mistral-common ships the real tokenizers")
V1 = Path(str(resources.files("mistral_common"))) / "data" / "tokenizer.model.v1"
JSON_OBJECT = Grammar("json_object")
TEXTS = ("name", " name", '{"a": 12}', "two  words\n\tnaïve 🙂 \U0001d510", "", "\x02", "ﬁne\x00")


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_in_the_midst_of_a_response(text: str) -> None:
    """As sentencepiece puts it behind another line, where no space is added: a forced text is the usual tokens."""
    tokenizer = Tokenizer(V1)
    line = tokenizer.encode("\n", bos=False)
    tokens = SentencepieceTokens(tokenizer)
    assert tokens(text) == tokenizer.encode("\n" + text, bos=False)[len(line) :]
    assert b"".join(tokens.tokens[token] for token in tokens(text)) == text.encode()


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_that_the_tokenizer_would_change(text: str, tmp_path: Path) -> None:
    """The small one drops control characters, writes "fi" for the ligature and has one space for two."""
    tokens = SentencepieceTokens(small_tokenizer(tmp_path))
    assert b"".join(tokens.tokens[token] for token in tokens(text)) == text.encode()


def test_forced_tokens_are_the_usual_ones() -> None:
    """Where the grammar leaves one text only: not one of the many ways to spell it that a model never saw."""
    tokens = SentencepieceTokens(Tokenizer(V1))
    matcher = compile_grammar(guidance_tokenizer(tokens), Grammar("regex", "temperature"))
    assert matcher.compute_ff_tokens() == tokens("temperature")


def _follows(text: str, grammar: Grammar = JSON_OBJECT) -> bool:
    """Whether `text` may begin a response of `grammar`."""
    matcher = compile_grammar(guidance_tokenizer(ByteTokens()), grammar)
    return bool(matcher.try_consume_tokens(list(text.encode())) == len(text))


@pytest.mark.parametrize("indent", [None, 0, 4, "\t"])
def test_json_may_be_laid_out_as_usual(indent: int | str | None) -> None:
    """As Python's json writes it, ten levels deep."""
    value: object = "end"
    for level in range(10):
        value = {"level": level, "below": value, "list": []}
    assert _follows(json.dumps(value, indent=indent))
    assert _follows(json.dumps(value, separators=(",", ":")))


def test_space_between_the_parts_of_json_has_a_bound() -> None:
    """A model that likes line breaks would write nothing else until max_tokens is reached."""
    assert _follows('{\n\n "a"')
    assert not _follows("{\n\n\n")
    assert not _follows("{  ")


@pytest.mark.parametrize(
    ("own", "texts"),
    [
        ({"whitespace_flexible": False}, {'{"a":1}': True, '{"a": 1}': False, '{ "a":1}': False}),
        ({"whitespace_pattern": "\t"}, {'{"a":1}': True, '{"a": 1}': False, '{\t"a":1}': True}),
        ({"whitespace_flexible": True}, {'{"a": 1}': True, "{\n\n\n": False}),
        ({"coerce_one_of": True}, {'{"a": 1}': True, "{\n\n\n": False}),
        (None, {'{"a": 1}': True, "{\n\n\n": False}),
    ],
)
def test_a_schema_may_say_what_white_space_it_wants(own: object, texts: dict[str, bool]) -> None:
    """By x-guidance, which is llguidance's; where it does not say, there is a bound."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    grammar = Grammar("json_schema", json.dumps(schema if own is None else {**schema, "x-guidance": own}))
    assert {text: _follows(text, grammar) for text in texts} == texts


@pytest.mark.parametrize("schema", ["{", "[" * 60_000, "true", "[]", '{"x-guidance": 5}'])
def test_schemas_of_odd_shapes_harm_nothing(schema: str) -> None:
    """They are refused or good, as llguidance has it; Python cannot read all of them."""
    with suppress(RequestError):
        compile_grammar(guidance_tokenizer(ByteTokens()), Grammar("json_schema", schema))
