"""How a response ends, and what of it may be shown when."""

import pytest

from mixtralkit.engine.request import Request, SamplingParams
from mixtralkit.engine.response import Response
from mixtralkit.tokenizer import Tokenizer
from tests.small_tokenizer import small_tokenizer

CONTEXT = 30


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return small_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def _respond(
    tokenizer: Tokenizer, tokens: list[int], *, prompt: int = 4, max_tokens: int = 99, stop: tuple[str, ...] = ()
) -> tuple[Response, list[str]]:
    """Push tokens until the response ends; returns what was shown after each."""
    request = Request((1,) * prompt, SamplingParams(max_tokens=max_tokens, stop=stop))
    response = Response(request, tokenizer=tokenizer, context=CONTEXT, decode=True)
    shown = []
    for token in tokens:
        shown.append(response.push(token))
        if response.finish_reason:
            break
    return response, shown


def test_ends_at_eos_which_has_no_text(tokenizer: Tokenizer) -> None:
    """Tokens behind it are not looked at."""
    tokens = tokenizer.encode("the sea", bos=False)
    response, shown = _respond(tokenizer, [*tokens, tokenizer.eos_id, *tokens])
    completion = response.completion(rank=2)
    assert (completion.finish_reason, completion.text, completion.rank) == ("eos", "the sea", 2)
    assert completion.tokens == (*tokens, tokenizer.eos_id)
    assert completion.prompt_tokens == 4
    assert "".join(shown) == "the sea"


def test_ends_after_max_tokens(tokenizer: Tokenizer) -> None:
    """Counting what was generated, not the prompt."""
    tokens = tokenizer.encode("to sleep, to say, to take arms", bos=False)
    completion = _respond(tokenizer, tokens, max_tokens=3)[0].completion(0)
    assert completion.finish_reason == "length"
    assert completion.tokens == tuple(tokens[:3])


def test_ends_when_the_context_is_full(tokenizer: Tokenizer) -> None:
    """Prompt and response together have `CONTEXT` tokens, even if max_tokens is reached at the same time or later."""
    completion = _respond(tokenizer, [5] * 40, prompt=CONTEXT - 3, max_tokens=3)[0].completion(0)
    assert completion.finish_reason == "context"
    assert len(completion.tokens) == 3


@pytest.mark.parametrize("stop", [("sea of",), ("nothing", "a sea of")])
def test_text_ends_before_the_stop_string(tokenizer: Tokenizer, stop: tuple[str, ...]) -> None:
    """The earliest one, also when it is spread over several tokens; nothing of it is ever shown."""
    tokens = tokenizer.encode("arms against a sea of troubles", bos=False)
    response, shown = _respond(tokenizer, tokens, stop=stop)
    completion = response.completion(0)
    assert completion.finish_reason == "stop"
    assert completion.text == "arms against a sea of".removesuffix(stop[-1])
    assert "".join(shown) == completion.text


def test_what_only_looked_like_a_stop_string_is_shown_later(tokenizer: Tokenizer) -> None:
    """The beginning of one is held back while it may become one, and given out when it has not, or at the end."""
    tokens = tokenizer.encode("to be or to bea", bos=False)
    response, shown = _respond(tokenizer, [*tokens, tokenizer.eos_id], stop=("to be gone", "beast"))
    assert response.completion(0).text == "".join(shown) == "to be or to bea"
    assert not "".join(shown[:-1]).endswith("bea")


def test_half_a_character_is_not_shown(tokenizer: Tokenizer) -> None:
    """A response cut in the middle of a character ends with the replacement sign."""
    tokens = [3 + byte for byte in "é".encode()]
    response, shown = _respond(tokenizer, tokens, max_tokens=2)
    assert shown[0] == ""
    assert response.completion(0).text == "é"
    assert _respond(tokenizer, tokens, max_tokens=1)[0].completion(0).text == "\ufffd"


def test_without_listeners_nothing_is_decoded(tokenizer: Tokenizer) -> None:
    """Ranks other than 0 count tokens only, yet see stop strings."""
    quiet = Response(Request((1,), SamplingParams()), tokenizer=tokenizer, context=CONTEXT, decode=False)
    assert [quiet.push(token) for token in tokenizer.encode("the sea", bos=False)] == [""] * len(
        tokenizer.encode("the sea", bos=False)
    )
    stopping = Response(
        Request((1,), SamplingParams(stop=("sea",))), tokenizer=tokenizer, context=CONTEXT, decode=False
    )
    for token in tokenizer.encode("the sea", bos=False):
        stopping.push(token)
    assert stopping.finish_reason == "stop"
