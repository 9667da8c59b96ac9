"""What requests may ask for."""

import json
import subprocess
import sys
from typing import Any

import pytest

from mixtralkit.engine.request import LONGEST_GRAMMAR, Grammar, Request, SamplingParams
from mixtralkit.errors import RequestError

EVERYTHING = SamplingParams(
    max_tokens=7,
    temperature=0.5,
    top_p=0.9,
    top_k=3,
    min_p=0.1,
    seed=2**62,
    stop=("a", "b"),
    stop_token_ids=(4, 5),
    ignore_eos=True,
    min_tokens=2,
    repetition_penalty=1.2,
    presence_penalty=-0.5,
    frequency_penalty=0.25,
    logit_bias=((3, -1.5), (4, 2.0)),
    logprobs=0,
    prompt_logprobs=3,
    grammar=Grammar("regex", "a+"),
)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", True),
        ("max_tokens", 1.0),
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", 10**400),  # an int that no float can hold
        ("temperature", "hot"),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("top_k", -1),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("seed", -1),
        ("seed", 2**63),
        ("stop", ("",)),
        ("stop", (3,)),
        ("stop_token_ids", (-1,)),
        ("ignore_eos", 1),
        ("min_tokens", -1),
        ("min_tokens", 129),  # more than max_tokens
        ("repetition_penalty", 0.0),
        ("repetition_penalty", 1e-300),  # makes infinities
        ("presence_penalty", 2.5),
        ("frequency_penalty", float("nan")),
        ("logit_bias", ((3, 101.0),)),
        ("logit_bias", ((3,),)),
        ("logit_bias", 3),
        ("logprobs", -1),
        ("prompt_logprobs", 1.5),
        ("grammar", "a+"),
    ],
)
def test_values_out_of_range_are_named(field: str, value: Any) -> None:
    """With what was given and what is allowed."""
    with pytest.raises(RequestError, match=f"^{field} is .*; it must be"):
        SamplingParams(**{field: value})


def test_plain_values_are_taken_as_they_are_meant() -> None:
    plain: dict[str, Any] = {"stop": "end", "stop_token_ids": [3], "logit_bias": {4: 1}, "temperature": 1}
    assert SamplingParams(**plain) == SamplingParams(
        stop=("end",), stop_token_ids=(3,), logit_bias=((4, 1.0),), temperature=1.0
    )
    assert SamplingParams(stop=["a", "b"]).stop == ("a", "b")  # type: ignore[arg-type]


def test_params_survive_json() -> None:
    """And the defaults take no room."""
    told = json.loads(json.dumps(EVERYTHING.to_json()))
    assert SamplingParams.from_json(told) == EVERYTHING
    assert len(told) == 17
    assert SamplingParams().to_json() == {}
    assert SamplingParams.from_json({}) == SamplingParams()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("poem", "a"),
        ("regex", ""),
        ("json_schema", ""),
        ("json_object", "{}"),
        ("regex", "a" * (LONGEST_GRAMMAR + 1)),
        ("regex", "é" * (LONGEST_GRAMMAR // 2 + 1)),
        ("regex", "\ud800"),
        ("regex", None),
        ("json_schema", {"type": "object"}),
    ],
)
def test_grammars_that_are_none(kind: Any, text: Any) -> None:
    with pytest.raises(RequestError, match="grammar"):
        Grammar(kind, text)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"stop_token_ids": (8,)}, "stop_token_ids: token id 8 is outside the vocabulary of 0 to 7"),
        ({"logit_bias": ((9, 1.0),)}, "logit_bias: token id 9 is outside"),
        ({"logprobs": 9}, "logprobs is 9; it must be at most the vocabulary's size, 8"),
        ({"prompt_logprobs": 9}, "prompt_logprobs is 9; it must be at most"),
    ],
)
def test_the_vocabulary_bounds_what_is_asked(params: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Request((1,), SamplingParams(**params)).check(vocab_size=8, context=4)


def test_a_schema_that_is_no_text_is_named() -> None:
    """It is easily forgotten that a schema is given as text."""
    with pytest.raises(RequestError, match=r"grammar text is \{'type': 'object'\}; it must be a string .*json.dumps"):
        Grammar("json_schema", {"type": "object"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("room", "message"),
    [
        (None, "the model's context is 4 and must hold the response too; shorten the prompt to at most 3 tokens"),
        (4, "the model's context is 4 and must hold"),
        (2, r"room for the keys and values of 2 \(kv_tokens; the model's context is 4\) .* at most 1 tokens"),
    ],
)
def test_a_prompt_that_is_too_long_hears_what_bounds_it(room: int | None, message: str) -> None:
    """Room for keys and values can be had, a longer context cannot."""
    with pytest.raises(RequestError, match=f"^the prompt has 4 tokens, but .*{message}"):
        Request((1,) * 4, SamplingParams()).check(vocab_size=8, context=4, room=room)


def test_what_fits_passes() -> None:
    params = SamplingParams(stop_token_ids=(7,), logit_bias=((0, 1.0),), logprobs=8, prompt_logprobs=0)
    Request((1, 7), params).check(vocab_size=8, context=4)


def test_requests_need_no_torch_and_no_numpy() -> None:
    """So that the command line refuses at once."""
    code = "import sys, mixtralkit.engine.request; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
