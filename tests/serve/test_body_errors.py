"""What clients are told of bodies that are no requests: the field, what it is, and what it must be."""

import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from mixtralkit.serve.body_errors import body_error
from mixtralkit.serve.http_errors import HttpError
from mixtralkit.serve.megatron_schema import MegatronRequest
from mixtralkit.serve.openai_schema import ChatRequest, CompletionRequest
from tests.serve.running_server import RunningServer


def refusal(model: type[BaseModel], body: str) -> HttpError:
    """The answer to a body that is wrong."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(body)
    return body_error(caught.value, model)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"temperature": -1}, "temperature is -1; it must be 0 or more"),
        ({"temperature": 101}, "temperature is 101; it must be 100 or less"),
        ({"temperature": "x"}, "temperature is 'x'; it must be a number"),
        ({"top_p": 0}, "top_p is 0; it must be more than 0"),
        ({"n": True}, "n is True; it must be a whole number"),
        ({"seed": 2**63}, "seed is 9223372036854775808; it must be less than 9223372036854775808"),
        ({"stream": 1}, "stream is 1; it must be true or false"),
        ({"stop": 5}, "stop is 5; it must be a text or a list"),
        ({"stop": [5]}, "stop[0] is 5; it must be a text"),
        ({"stop": [""]}, "stop[0] has 0 characters; it must have at least 1"),
        ({"stop": "a" * 1025}, "stop has 1025 characters; it must have at most 1024"),
        ({"stop": ["a"] * 33}, "stop has 33 entries; it must have at most 32"),
        ({"stop": "\0"}, "stop: NUL (U+0000) is not text"),
        ({"model": "m" * 1025}, "model has 1025 characters; it must have at most 1024"),
        ({"logit_bias": {"7": 101}}, "logit_bias[7] is 101; it must be 100 or less"),
        ({"guided_json": 5}, "guided_json is 5; it must be an object or a text"),
        ({"response_format": 5}, "response_format is 5; it must be an object"),
        (
            {"response_format": {"type": "yaml"}},
            "response_format.type is 'yaml'; it must be 'text', 'json_object' or 'json_schema'",
        ),
        ({"structured_outputs": {"choice": ["a"]}}, "structured_outputs.choice is not known here"),
        ({"structured_outputs": {}}, "structured_outputs: give one of json, regex and json_object"),
        (
            {"structured_outputs": {"regex": "a", "json": {}}},
            "structured_outputs: give one of json, regex and json_object",
        ),
        (
            {"prompt": ["a", 1]},
            "prompt is ['a', 1]; it must be a text, a list of texts, a list of token ids or a list of such lists",
        ),
        ({"prompt": []}, "prompt has 0 entries; it must have at least 1"),
    ],
)
def test_a_completion(fields: dict[str, Any], words: str) -> None:
    error = refusal(CompletionRequest, json.dumps({"prompt": "a", **fields}))
    assert str(error) == words
    assert error.param == next(iter(fields))


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "user"}, "messages[0].content is missing"),
        ({"role": "user", "content": 5}, "messages[0].content is 5; it must be a text or a list"),
        (
            {"role": "user", "content": [{"type": "image_url"}]},
            "messages[0].content[0].type is 'image_url'; it must be 'text'",
        ),
        ("hello", "messages[0] is 'hello'; it must be an object"),
    ],
)
def test_a_conversation(message: object, words: str) -> None:
    assert str(refusal(ChatRequest, json.dumps({"messages": [message]}))) == words


@pytest.mark.parametrize(
    ("model", "body", "words"),
    [
        (CompletionRequest, "{}", "prompt is missing"),
        (CompletionRequest, "[]", "the body must be a JSON object"),
        (CompletionRequest, '{"prompt":', "the body is not JSON: EOF while parsing a value at line 1 column 10"),
        (CompletionRequest, '{"prompt": "a", "top_p": NaN}', "top_p is nan; it must be a finite number"),
        (MegatronRequest, '{"prompts": ["a"], "beams": 1}', "beams is not known here"),
        (MegatronRequest, '{"prompts": ["a"], "max_len": 1}', "max_len is no longer used; "),
    ],
)
def test_other_bodies(model: type[BaseModel], body: str, words: str) -> None:
    assert str(refusal(model, body)).startswith(words)


@pytest.mark.parametrize("value", ["s" * 100_000, ["s" * 1000] * 1000, {"s" * 1000: {"s": 1}}, 10**4000])
def test_a_long_value_is_not_sent_back(value: object) -> None:
    assert len(str(refusal(CompletionRequest, json.dumps({"prompt": "a", "temperature": value})))) < 300


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"best_of": 3}, "best_of", "unsupported_parameter"),
        ({"prompt": [100_000]}, "prompt", None),
        ({"stop_token_ids": [100_000]}, "stop_token_ids", None),
        ({"guided_regex": "a", "guided_json": {}}, "guided_regex", None),
        ({"structured_outputs": {"regex": "a"}, "guided_json": {}}, "guided_json", None),
    ],
)
def test_what_only_a_server_can_tell_names_the_field(
    server: RunningServer, fields: dict[str, Any], param: str, code: str | None
) -> None:
    response = server.post("/v1/completions", {"prompt": "to be", **fields})
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["param"], error["code"]) == (param, code)
