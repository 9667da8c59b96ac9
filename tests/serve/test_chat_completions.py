"""/v1/chat/completions over a real engine, and with the openai client as it comes."""

import json
from typing import Any

import openai
import pydantic
import pytest

from mixtralkit.chat_template import Message, encode_chat
from tests.serve.running_server import NAME, RunningServer

ASKED: list[Any] = [
    {"role": "system", "content": "sleep"},
    {"role": "user", "content": "to be"},
    {"role": "assistant", "content": "or not"},
    {"role": "user", "content": [{"type": "text", "text": "to "}, {"type": "text", "text": "be?"}]},
]


@pytest.fixture(scope="module")
def client(server: RunningServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def ask(server: RunningServer, **fields: Any) -> dict[str, Any]:
    body = {"messages": ASKED, "temperature": 0, "max_tokens": 9, **fields}
    response = server.post("/v1/chat/completions", body)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def test_the_prompt_is_the_templates(server: RunningServer) -> None:
    """The same tokens through /v1/completions are answered alike, but for the space before a first word."""
    turns = [Message("system", "sleep"), Message("user", "to be"), Message("assistant", "or not")]
    tokens = encode_chat([*turns, Message("user", "to be?")], server.tokenizer)
    document = ask(server)
    assert document["usage"]["prompt_tokens"] == len(tokens)
    expected = server.complete(prompt=tokens, max_tokens=9)["choices"][0]
    choice = document["choices"][0]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"].strip() == expected["text"].strip()
    assert choice["finish_reason"] == expected["finish_reason"] == "length"
    assert document["object"] == "chat.completion"


def test_developer_is_a_newer_word_for_system(server: RunningServer) -> None:
    renamed = [{**ASKED[0], "role": "developer"}, *ASKED[1:]]
    assert ask(server, messages=renamed)["choices"] == ask(server)["choices"]


def test_max_completion_tokens_counts_if_both_are_given(server: RunningServer) -> None:
    assert ask(server, max_completion_tokens=3)["usage"]["completion_tokens"] == 3


def test_an_answer_may_fill_the_context_unless_it_is_limited(server: RunningServer) -> None:
    document = ask(server, max_tokens=None, ignore_eos=True)
    assert document["usage"]["total_tokens"] == server.engine.context
    assert document["choices"][0]["finish_reason"] == "length"


def test_streaming_with_the_openai_client(server: RunningServer, client: openai.OpenAI) -> None:
    fields: Any = {"model": NAME, "messages": ASKED, "max_tokens": 9, "temperature": 1, "seed": 4, "n": 2}
    whole = client.chat.completions.create(**fields)
    chunks = list(client.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True}))
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    for choice in whole.choices:
        deltas = [c.choices[0].delta for c in chunks[:-1] if c.choices[0].index == choice.index]
        assert [delta.role for delta in deltas] == ["assistant"] + [None] * (len(deltas) - 1)
        assert "".join(delta.content or "" for delta in deltas) == choice.message.content


def test_logprobs_with_the_openai_client(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=NAME,
        messages=ASKED,
        max_tokens=4,
        temperature=0,
        logprobs=True,
        top_logprobs=2,
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == 4
    for entry in logprobs.content:
        assert len(entry.top_logprobs) == 2
        assert entry.top_logprobs[0].token == entry.token  # greedy: the likeliest
        assert entry.top_logprobs[0].logprob == entry.logprob
        assert entry.bytes is not None
    content = b"".join(bytes(entry.bytes or ()) for entry in logprobs.content)
    assert content.decode("utf-8", "replace").strip() == (answer.choices[0].message.content or "").strip()


def test_completions_with_the_openai_client(client: openai.OpenAI) -> None:
    whole = client.completions.create(model=NAME, prompt="to be", temperature=0, max_tokens=6)
    parts = client.completions.create(model=NAME, prompt="to be", temperature=0, max_tokens=6, stream=True)
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text
    assert client.models.list().data[0].id == NAME
    assert client.models.retrieve(NAME).id == NAME


def test_errors_with_the_openai_client(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.completions.create(model="other", prompt="to be")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model=NAME, prompt="to be", n=1000)
    assert refused.value.param == "n"
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model=NAME, prompt=[5] * 600)
    assert long.value.code == "context_length_exceeded"
    assert "512" in str(long.value)
    assert "600" in str(long.value)


def test_no_alternatives_need_no_logprobs(server: RunningServer) -> None:
    """As clients that always send both fields do."""
    body = {"messages": ASKED, "max_tokens": 1, "logprobs": False, "top_logprobs": 0}
    assert server.post("/v1/chat/completions", body).json()["choices"][0]["logprobs"] is None


class Person(pydantic.BaseModel):
    """What `parse` of the openai client makes a schema of."""

    age: int = pydantic.Field(ge=0, le=99)


def test_parse_of_the_openai_client(client: openai.OpenAI, caplog: pytest.LogCaptureFixture) -> None:
    """All that it sends is known here: nothing is said to be ignored."""
    with caplog.at_level("WARNING", logger="mixtralkit"):
        answer = client.chat.completions.parse(
            model=NAME, messages=ASKED, response_format=Person, seed=1, max_tokens=400
        )
    assert isinstance(answer.choices[0].message.parsed, Person)
    assert not caplog.text


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, None),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "tools"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "guided_regex"),
        ({"guided_regex": "(unclosed"}, None),
        ({"best_of": 3}, "best_of"),
    ],
)
def test_refusals_name_the_field(server: RunningServer, fields: dict[str, Any], param: str | None) -> None:
    response = server.post("/v1/chat/completions", {"messages": ASKED, **fields})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    if param is not None:
        assert error["param"] == param


def test_an_object_is_answered_where_one_is_asked_for(server: RunningServer) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    asked = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    document = ask(server, response_format=asked, temperature=1, seed=1, max_tokens=80)
    assert json.loads(document["choices"][0]["message"]["content"]) in ({"a": 1}, {"a": 2})
