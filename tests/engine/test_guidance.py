"""What llguidance is told of Mixtral's tokenizers."""

import json
from importlib import resources
from pathlib import Path

import pytest

from mixtralkit.engine.guidance import ByteTokens, SentencepieceTokens, compile_grammar, guidance_tokenizer
from mixtralkit.engine.request import Grammar
from mixtralkit.tokenizer import Tokenizer
from tests.small_tokenizer import small_tokenizer

pytest.importorskip("mistral_common", reason="mistral-common ships the real tokenizers")
V1 = Path(str(resources.files("mistral_common"))) / "data" / "tokenizer.model.v1"
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


def _follows(text: str) -> bool:
    """Whether `text` may begin a JSON object."""
    matcher = compile_grammar(guidance_tokenizer(ByteTokens()), Grammar("json_object"))
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
