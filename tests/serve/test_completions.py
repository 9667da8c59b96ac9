"""/v1/completions over a real engine. The oracle is the model itself: its logits, without engine, cache or server."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from mixtralkit.engine.logprobs import TokenLogprobs
from mixtralkit.serve.openai_logprobs import CompletionLogprobs
from tests.random_model import random_model
from tests.serve.running_server import CONFIG, NAME, RunningServer

PROMPT = "to be or not"


@pytest.fixture(scope="module")
def logprobs_TV(server: RunningServer) -> "LogprobsOf":
    return LogprobsOf()


class LogprobsOf:
    """Log probabilities of what follows each of some tokens, in float64."""

    def __init__(self) -> None:
        self._model = random_model(CONFIG, seed=3)

    @torch.no_grad()
    def __call__(self, tokens: Sequence[int]) -> torch.Tensor:
        return torch.log_softmax(self._model(torch.tensor([list(tokens)]))[0].double(), dim=-1)

    def greedy(self, tokens: Sequence[int], count: int) -> list[int]:
        tokens = list(tokens)
        for _ in range(count):
            tokens.append(int(self(tokens)[-1].argmax()))
        return tokens[-count:]


def stream(server: RunningServer, **fields: Any) -> list[dict[str, Any]]:
    """The documents of a stream, which ends with [DONE]."""
    with server.client() as client:
        body = {"prompt": PROMPT, "temperature": 0, "stream": True, **fields}
        with client.stream("POST", "/v1/completions", json=body) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_greedy_text_is_that_of_the_likeliest_tokens(server: RunningServer, logprobs_TV: LogprobsOf) -> None:
    document = server.complete(prompt=PROMPT, max_tokens=7, return_token_ids=True)
    choice = document["choices"][0]
    tokens = server.tokenizer.encode(PROMPT)
    assert choice["prompt_token_ids"] == tokens
    assert choice["token_ids"] == logprobs_TV.greedy(tokens, 7)
    whole = server.tokenizer.decode([*tokens, *choice["token_ids"]])
    assert PROMPT + choice["text"] == whole  # so the first word keeps its space
    assert document["object"] == "text_completion"
    assert document["model"] == NAME
    assert document["usage"]["prompt_tokens"] == len(tokens)
    assert document["usage"]["completion_tokens"] == 7
    assert document["usage"]["total_tokens"] == len(tokens) + 7


@pytest.mark.parametrize("fields", [{}, {"max_tokens": None}])
def test_sixteen_tokens_are_the_default(server: RunningServer, fields: dict[str, Any]) -> None:
    document = server.complete(ignore_eos=True, **fields)
    assert document["usage"]["completion_tokens"] == 16
    assert document["choices"][0]["finish_reason"] == "length"


def test_ids_are_taken_as_they_are(server: RunningServer) -> None:
    tokens = server.tokenizer.encode(PROMPT)
    by_text, by_ids, by_list = (
        server.complete(prompt=prompt)["choices"][0]["text"] for prompt in (PROMPT, tokens, [tokens])
    )
    assert by_text == by_ids == by_list
    assert server.complete(prompt=tokens[1:])["usage"]["prompt_tokens"] == len(tokens) - 1


def test_every_prompt_gets_n_choices_in_order(server: RunningServer) -> None:
    prompts = [PROMPT, "the slings"]
    document = server.complete(prompt=prompts, n=3, temperature=1, seed=5, max_tokens=6)
    choices = document["choices"]
    assert [choice["index"] for choice in choices] == list(range(6))
    assert len({choice["text"] for choice in choices}) == 6
    alone = [
        server.complete(prompt=prompt, temperature=1, seed=5 + index, max_tokens=6)["choices"][0]["text"]
        for prompt in prompts
        for index in range(3)
    ]
    assert [choice["text"] for choice in choices] == alone
    lengths = [len(server.tokenizer.encode(prompt)) for prompt in prompts]
    assert document["usage"]["prompt_tokens"] == sum(lengths)


def test_without_a_seed_answers_differ_and_with_one_they_do_not(server: RunningServer) -> None:
    free = {server.complete(temperature=1)["choices"][0]["text"] for _ in range(3)}
    assert len(free) == 3
    for seed in (7, -7):
        assert len({server.complete(temperature=1, seed=seed)["choices"][0]["text"] for _ in range(3)}) == 1


@pytest.mark.parametrize("fields", [{}, {"echo": True, "logprobs": 2}, {"n": 2, "temperature": 1, "seed": 3}])
def test_a_stream_tells_the_same_as_an_answer_in_one_piece(server: RunningServer, fields: dict[str, Any]) -> None:
    whole = server.complete(prompt=PROMPT, max_tokens=12, **fields)
    *chunks, last = stream(server, max_tokens=12, stream_options={"include_usage": True}, **fields)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert all(chunk["usage"] is None and chunk["object"] == "text_completion" for chunk in chunks)
    for choice in whole["choices"]:
        parts = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == choice["index"]]
        assert "".join(part["text"] for part in parts) == choice["text"]
        assert [part["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + [choice["finish_reason"]]
        if choice["logprobs"]:
            for name, values in choice["logprobs"].items():
                assert [value for part in parts for value in part["logprobs"][name]] == values
    assert len({chunk["id"] for chunk in [*chunks, last]}) == 1


def test_no_usage_in_a_stream_unless_asked_for(server: RunningServer) -> None:
    assert all("usage" not in chunk and chunk["choices"] for chunk in stream(server))


def test_logprobs_are_the_models_own(server: RunningServer, logprobs_TV: LogprobsOf) -> None:
    """To 1e-4: the engine feeds the prompt through kernels, the oracle through torch, both in float32."""
    told = server.complete(prompt=PROMPT, max_tokens=5, logprobs=3, echo=True, return_token_ids=True)["choices"][0]
    tokens = [*told["prompt_token_ids"], *told["token_ids"]]
    expected_TV = logprobs_TV(tokens)
    lists = told["logprobs"]
    assert {len(values) for values in lists.values()} == {len(tokens)}
    assert lists["token_logprobs"][0] is None
    assert lists["top_logprobs"][0] is None
    for place in range(1, len(tokens)):
        row_V = expected_TV[place - 1]
        assert lists["token_logprobs"][place] == pytest.approx(float(row_V[tokens[place]]), abs=1e-4)
        top = lists["top_logprobs"][place]
        assert top[lists["tokens"][place]] == lists["token_logprobs"][place]  # the same float
        assert sorted(top.values())[-3:] == pytest.approx(sorted(row_V.tolist())[-3:], abs=1e-4)


def test_tokens_stand_where_text_offset_says(server: RunningServer) -> None:
    told = server.complete(prompt=PROMPT, max_tokens=5, logprobs=0, echo=True)["choices"][0]
    lists = told["logprobs"]
    assert told["text"].startswith(PROMPT)
    assert lists["text_offset"][:2] == [0, 0]  # BOS has no text, and the first word's space is not part of it
    for token, offset in list(zip(lists["tokens"], lists["text_offset"], strict=True))[2:8]:
        assert told["text"][offset:].startswith(token)
    only = server.complete(prompt=PROMPT, max_tokens=5, logprobs=0)["choices"][0]["logprobs"]
    assert only["text_offset"][0] == 0
    assert only["tokens"] == lists["tokens"][-5:]


def test_tokens_join_to_the_text(server: RunningServer) -> None:
    """A line end, which is the token of a byte, is told as what it is; a byte of a longer character cannot be."""
    line_end, e_acute = 3 + 0x0A, [3 + 0xC3, 3 + 0xA9]
    prompt = [*server.tokenizer.encode("to be"), line_end, *e_acute, *server.tokenizer.encode("or", bos=False)]
    bias = {"logit_bias": {str(line_end): 100}}
    choice = server.complete(prompt=prompt, max_tokens=1, logprobs=0, echo=True, **bias)["choices"][0]
    tokens, offsets = (choice["logprobs"][name] for name in ("tokens", "text_offset"))
    assert [token for token in tokens if token.startswith("bytes:")] == ["bytes:\\xc3", "bytes:\\xa9"]
    joined = "".join(tokens[1:]).replace("bytes:\\xc3bytes:\\xa9", "\u00e9")
    assert joined.removeprefix(" ") == choice["text"] == "to be\n\u00e9 or\n"
    assert tokens[-1] == "\n"
    assert all(choice["text"][at] == "\n" for at, token in zip(offsets, tokens, strict=True) if token == "\n")


@pytest.mark.parametrize("chosen", ["letter", "byte"])
def test_two_tokens_of_the_same_text_are_told_apart(server: RunningServer, chosen: str) -> None:
    """The chosen one has the text, so that its value is found; the other one is told by its byte."""
    pieces = [server.tokenizer.piece(token) for token in range(server.tokenizer.vocab_size)]
    told = CompletionLogprobs(server.tokenizer, begun=True)
    letter, byte = pieces.index("e"), 3 + ord("e")
    values = {letter: -1.0, byte: -2.0, pieces.index("t"): -3.0}
    token = letter if chosen == "letter" else byte
    lists = told.write([token], [TokenLogprobs(token, values[token], tuple(values.items()))])
    assert lists["tokens"] == ["e"]
    assert lists["token_logprobs"] == [values[token]]
    other = values[letter + byte - token]
    assert lists["top_logprobs"] == [{"e": values[token], "bytes:\\x65": other, "t": -3.0}]


@pytest.mark.parametrize(
    "prompt",
    [
        "to  be",  # of which the tokenizer drops a space
        [1, 50, 3 + 0xE2],  # whose last byte begins a character
    ],
)
def test_after_an_echo_text_offset_counts_from_the_prompts_text(server: RunningServer, prompt: Any) -> None:
    """Also where the prompt's tokens, one by one, say something else."""
    alone = server.complete(prompt=prompt, max_tokens=6, logprobs=0)["choices"][0]
    echoed = server.complete(prompt=prompt, max_tokens=6, logprobs=0, echo=True)["choices"][0]
    length = len(echoed["text"]) - len(alone["text"])
    offsets = [offset - length for offset in echoed["logprobs"]["text_offset"]]
    count = len(alone["logprobs"]["tokens"])
    assert offsets[-count:] == alone["logprobs"]["text_offset"]


def test_what_an_evaluation_harness_asks(server: RunningServer) -> None:
    """Exactly one token is generated even where that is EOS, so that the prompt's logprobs are all but the last."""
    tokens = server.tokenizer.encode(PROMPT)
    eos = server.tokenizer.eos_id
    body = {"prompt": [tokens], "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0, "seed": 1234}
    for bias in ({}, {"logit_bias": {str(eos): 100}}):
        choice = server.complete(**body, **bias)["choices"][0]
        assert len(choice["logprobs"]["tokens"]) == len(tokens) + 1
        assert choice["finish_reason"] == ("stop" if bias else "length")
    assert choice["text"] == PROMPT
    assert choice["logprobs"]["tokens"][-1] == "</s>"


def test_no_tokens_at_all_is_the_prompt_alone(server: RunningServer) -> None:
    document = server.complete(prompt=PROMPT, max_tokens=0, echo=True, logprobs=1)
    choice = document["choices"][0]
    assert choice["text"] == PROMPT
    assert len(choice["logprobs"]["tokens"]) == document["usage"]["prompt_tokens"]
    assert document["usage"]["completion_tokens"] == 0
    assert choice["finish_reason"] == "length"


def test_stop_strings_are_not_part_of_the_text(server: RunningServer) -> None:
    free = server.complete(prompt=PROMPT, max_tokens=12)["choices"][0]["text"]
    stop = free[5:7]
    for given in (stop, ["never", stop]):
        choice = server.complete(prompt=PROMPT, max_tokens=12, stop=given)["choices"][0]
        assert choice["text"] == free[: free.index(stop)]
        assert choice["finish_reason"] == "stop"


def test_eos_ends_unless_it_is_ignored(server: RunningServer) -> None:
    bias = {"logit_bias": {str(server.tokenizer.eos_id): 100}, "max_tokens": 5}
    ended = server.complete(**bias)
    assert (ended["usage"]["completion_tokens"], ended["choices"][0]["finish_reason"]) == (1, "stop")
    assert server.complete(**bias, ignore_eos=True)["usage"]["completion_tokens"] == 5
    late = server.complete(**bias, min_tokens=3)
    assert late["usage"]["completion_tokens"] == 4


def test_the_context_ends_a_response(server: RunningServer) -> None:
    document = server.complete(prompt=[5] * (CONFIG.context - 4), max_tokens=100, ignore_eos=True)
    assert document["usage"]["completion_tokens"] == 4
    assert document["choices"][0]["finish_reason"] == "length"


def test_a_shared_prompt_is_counted_once(server: RunningServer) -> None:
    """Responses to one prompt share its blocks."""
    prompt = list(range(10, 10 + 200))
    usage = server.complete(prompt=prompt, n=4, temperature=1, seed=1, max_tokens=2)["usage"]
    assert usage["prompt_tokens"] == 200
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0
    again = server.complete(prompt=prompt, max_tokens=2)["usage"]
    assert again["prompt_tokens_details"]["cached_tokens"] >= 128


@pytest.mark.parametrize(
    "fields",
    [
        {"guided_regex": "[ab]{3}c"},
        {"structured_outputs": {"regex": "[ab]{3}c"}},
    ],
)
def test_a_regular_expression_is_followed(server: RunningServer, fields: dict[str, Any]) -> None:
    text = server.complete(temperature=1, max_tokens=30, **fields)["choices"][0]["text"]
    assert len(text) == 4
    assert set(text[:3]) <= {"a", "b"}
    assert text[3] == "c"


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [1, 2, 3]}}}},
        {"guided_json": {"enum": [1, 2, 3]}},
        {"guided_json": '{"enum": [1, 2, 3]}'},
        {"structured_outputs": {"json": {"enum": [1, 2, 3]}}},
    ],
)
def test_a_schema_is_followed(server: RunningServer, fields: dict[str, Any]) -> None:
    text = server.complete(temperature=1, max_tokens=30, **fields)["choices"][0]["text"]
    assert json.loads(text) in (1, 2, 3)


def test_more_log_probabilities_of_prompts_than_are_kept(server: RunningServer) -> None:
    """250 prompts of 400 tokens, with 20 alternatives each, are 2.1 million."""
    asked = {"prompt": [[5] * 400] * 250, "echo": True, "logprobs": 20, "max_tokens": 0}
    error = server.post("/v1/completions", asked)
    assert error.status_code == 400
    assert error.json()["error"]["param"] == "logprobs"
    assert "2100000" in error.json()["error"]["message"]
