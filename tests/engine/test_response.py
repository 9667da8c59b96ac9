"""How a response ends, and what of it may be shown when."""

from typing import Any

import pytest

from mixtralkit.engine.request import FinishReason, SamplingParams
from mixtralkit.engine.response import Response
from mixtralkit.tokenizer import Tokenizer
from tests.small_tokenizer import small_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return small_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def _respond(
    tokenizer: Tokenizer, tokens: list[int], *, finish: FinishReason = "length", **params: Any
) -> tuple[Response, list[str]]:
    """Push tokens one by one, the last of which ends the response by `finish`; returns what was shown after each."""
    response = Response(SamplingParams(**params), tokenizer)
    shown = []
    for place, token in enumerate(tokens, start=1):
        shown.append(response.push([token], finish if place == len(tokens) else None)[0])
        if response.finish_reason:
            break
    return response, shown


def test_eos_has_no_text(tokenizer: Tokenizer) -> None:
    """It counts as a token."""
    tokens = tokenizer.encode("the sea", bos=False)
    response, shown = _respond(tokenizer, [*tokens, tokenizer.eos_id], finish="eos")
    assert (response.finish_reason, response.text, "".join(shown)) == ("eos", "the sea", "the sea")
    assert response.tokens == [*tokens, tokenizer.eos_id]


def test_a_stop_token_has_no_text(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("the sea of", bos=False)
    response, shown = _respond(tokenizer, tokens, finish="stop", stop_token_ids=(tokens[-1],))
    assert "the sea of".startswith(response.text)
    assert response.text == "".join(shown) != "the sea of"
    assert response.tokens == tokens


def test_the_token_that_ends_a_grammar_has_its_text(tokenizer: Tokenizer) -> None:
    """The runner says "stop" there, too."""
    tokens = tokenizer.encode("the sea of", bos=False)
    response, _ = _respond(tokenizer, tokens, finish="stop")
    assert (response.finish_reason, response.text) == ("stop", "the sea of")


def test_text_that_goes_on_keeps_the_space_before_its_first_word(tokenizer: Tokenizer) -> None:
    response = Response(SamplingParams(stop=(" of",)), tokenizer, continues=True)
    response.push(tokenizer.encode("the sea of", bos=False), None)
    assert (response.finish_reason, response.text) == ("stop", " the sea")


@pytest.mark.parametrize("stop", [("sea of",), ("nothing", "a sea of")])
@pytest.mark.parametrize("at_once", [False, True])
def test_text_ends_before_the_stop_string(tokenizer: Tokenizer, stop: tuple[str, ...], at_once: bool) -> None:
    """The earliest one, also when it is spread over several tokens or several tokens come at once; nothing of it is
    ever shown, and tokens behind it are not taken.
    """
    tokens = tokenizer.encode("arms against a sea of troubles", bos=False)
    if at_once:
        response = Response(SamplingParams(stop=stop), tokenizer)
        text, taken = response.push(tokens, "length")
        shown = [text]
        assert taken == len(response.tokens) < len(tokens)
    else:
        response, shown = _respond(tokenizer, tokens, stop=stop)
    assert response.finish_reason == "stop"
    assert response.text == "arms against a sea of".removesuffix(stop[-1])
    assert "".join(shown) == response.text


def test_what_only_looked_like_a_stop_string_is_shown_later(tokenizer: Tokenizer) -> None:
    """The beginning of one is held back while it may become one, and given out when it has not, or at the end."""
    tokens = tokenizer.encode("to be or to bea", bos=False)
    response, shown = _respond(tokenizer, [*tokens, tokenizer.eos_id], finish="eos", stop=("to be gone", "beast"))
    assert response.text == "".join(shown) == "to be or to bea"
    assert not "".join(shown[:-1]).endswith("bea")


def test_before_min_tokens_no_stop_string_counts(tokenizer: Tokenizer) -> None:
    """Not even later: it is text by then."""
    tokens = tokenizer.encode("the sea and the sea", bos=False)
    stops_at_once, _ = _respond(tokenizer, tokens, stop=("sea",))
    response, _ = _respond(tokenizer, tokens, stop=("sea",), min_tokens=len(tokens) - 1)
    assert (stops_at_once.text, response.text) == ("the ", "the sea and the ")


def test_half_a_character_is_not_shown(tokenizer: Tokenizer) -> None:
    """A response cut in the middle of a character ends with the replacement sign."""
    tokens = [3 + byte for byte in "é".encode()]
    response, shown = _respond(tokenizer, tokens)
    assert shown[0] == ""
    assert response.text == "é"
    assert _respond(tokenizer, tokens[:1])[0].text == "\ufffd"


def test_ended_from_outside_it_shows_what_was_held_back(tokenizer: Tokenizer) -> None:
    response = Response(SamplingParams(stop=("sea of",)), tokenizer)
    shown = response.push(tokenizer.encode("a sea", bos=False), None)[0]
    assert shown + response.end("interrupted") == response.text == "a sea"
    assert response.finish_reason == "interrupted"
