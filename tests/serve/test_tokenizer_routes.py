"""/tokenizer_info, /tokenize and /detokenize, as lm-evaluation-harness uses them."""

from pathlib import Path
from typing import Any

import jinja2.sandbox
import mistral_common
import pytest

from mixtralkit.chat_template import Message, encode_chat
from mixtralkit.serve.chat_markup import TEMPLATE_V1, TEMPLATE_V3, encode_marked
from mixtralkit.tokenizer import Tokenizer
from tests.serve.running_server import NAME, RunningServer

DATA = Path(mistral_common.__file__).parent / "data"
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello, my name is"},
    {"role": "assistant", "content": "  What? "},
    {"role": "user", "content": "never mind\n"},
]


def tokenize(server: RunningServer, **fields: Any) -> list[int]:
    response = server.post("/tokenize", fields)
    assert response.status_code == 200, response.text
    tokens: list[int] = response.json()["tokens"]
    assert response.json()["count"] == len(tokens)
    return tokens


@pytest.mark.parametrize(("path", "field"), [("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": [5]})])
def test_other_models_and_fields(
    server: RunningServer, path: str, field: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A model that is not here is not answered for, and what is ignored is said, as on the other routes."""
    assert server.post(path, {**field, "model": "other"}).status_code == 404
    with caplog.at_level("WARNING", logger="mixtralkit"):
        assert server.post(path, {**field, "model": NAME, path: 1}).status_code == 200
    assert f'the field "{path}" of requests is ignored' in caplog.text


def test_special_tokens_are_named(server: RunningServer) -> None:
    with server.client() as client:
        info = client.get("/tokenizer_info").json()
    assert (info["bos_token"], info["eos_token"], info["pad_token"]) == ("<s>", "</s>", None)
    assert tokenize(server, prompt=info["bos_token"], add_special_tokens=False) == [1]
    assert tokenize(server, prompt=info["eos_token"], add_special_tokens=False) == [2]
    assert info["chat_template"] == TEMPLATE_V1


def test_text_to_tokens_and_back(server: RunningServer) -> None:
    plain = server.tokenizer.encode("to be or not", bos=False)
    assert tokenize(server, prompt="to be or not", add_special_tokens=False) == plain
    assert tokenize(server, prompt="to be or not") == [1, *plain]
    assert tokenize(server, prompt="<s>to be or not") == [1, *plain]
    assert server.post("/detokenize", {"tokens": [1, *plain]}).json() == {"prompt": "to be or not"}


def test_a_conversation_to_tokens(server: RunningServer) -> None:
    messages = [{"role": "user", "content": "to be"}]
    assert tokenize(server, messages=messages) == encode_chat([Message("user", "to be")], server.tokenizer)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {}),
        ("/tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}),
        ("/tokenize", {"prompt": 5}),
        ("/detokenize", {"tokens": [99999]}),
        ("/detokenize", {"tokens": [-1]}),
        ("/detokenize", {"tokens": "1"}),
    ],
)
def test_what_cannot_be_is_refused(server: RunningServer, path: str, body: dict[str, Any]) -> None:
    response = server.post(path, body)
    assert response.status_code == 400
    assert response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("file", "template"),
    [("tokenizer.model.v1", TEMPLATE_V1), ("mistral_instruct_tokenizer_240323.model.v3", TEMPLATE_V3)],
)
@pytest.mark.parametrize("turns", [TURNS, TURNS[1:], TURNS[:2], TURNS[1:2]])
def test_the_told_template_gives_the_prompt_of_the_chat_route(
    file: str, template: str, turns: list[dict[str, Any]]
) -> None:
    """With the real tokenizers: rendered by jinja2 and tokenized as /tokenize does, against `encode_chat`."""
    tokenizer = Tokenizer(DATA / file)
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment()
    text = environment.from_string(template).render(messages=turns, bos_token="<s>", eos_token="</s>")
    expected = encode_chat([Message(**turn) for turn in turns], tokenizer)
    assert encode_marked(text, tokenizer, bos=False) == expected
