"""PUT /api: what Megatron's own clients send and read, each field of it honoured or refused."""

from pathlib import Path
from typing import Any

import pytest

from mixtralkit.engine.engine_limits import EngineLimits
from tests.serve.running_server import RunningServer, running_server


def put(server: RunningServer, **fields: Any) -> tuple[int, dict[str, Any]]:
    with server.client() as client:
        response = client.put("/api", json={"prompts": ["to be"], **fields})
    return response.status_code, response.json()


def generate(server: RunningServer, **fields: Any) -> dict[str, Any]:
    status, document = put(server, **fields)
    assert status == 200, document
    return document


def test_text_is_the_prompt_and_what_follows(server: RunningServer) -> None:
    """Greedy by top_k 1, beside /v1/completions with the same tokens: this route adds no BOS unless asked to."""
    prompts = ["to be", "the slings and"]
    document = generate(server, prompts=prompts, tokens_to_generate=6, top_k=1)
    assert set(document) == {"text", "segments", "tokens"}
    lists = (document[name] for name in ("text", "tokens", "segments"))
    for prompt, text, tokens, segments in zip(prompts, *lists, strict=True):
        ids = server.tokenizer.encode(prompt, bos=False)
        assert tokens[: len(ids)] == ids
        assert len(tokens) == len(segments) == len(ids) + 6
        assert text == prompt + server.complete(prompt=ids, max_tokens=6)["choices"][0]["text"]


def test_more_prompts_than_there_is_room_for(server: RunningServer) -> None:
    """Eight run and 64 wait at most; the others follow, and each answer is at its prompt's place."""
    prompts = [f"to be {number}" for number in range(128)]
    document = generate(server, prompts=prompts, tokens_to_generate=2, top_k=1)
    assert [text[: len(prompt)] for text, prompt in zip(document["text"], prompts, strict=True)] == prompts
    assert put(server, prompts=["to be"] * 129)[0] == 400


def test_segments_join_to_the_text(server: RunningServer) -> None:
    """The small tokenizer has no piece for the exclamation mark, so it is the token of a byte."""
    (segments,) = generate(server, prompts=["to be! or not"], logprobs=True, tokens_to_generate=0)["segments"]
    assert "!" in segments
    assert "".join(segments) == " to be! or not"


def test_more_tokens_than_the_context_has_room_for(server: RunningServer) -> None:
    """As Megatron's server: to get fewer than were asked for would be a surprise. The longest prompt counts."""
    prompts = ["to be", "to be or not"]
    length = len(server.tokenizer.encode(prompts[1], bos=False))
    room = 512 - length
    status, document = put(server, prompts=prompts, tokens_to_generate=room + 1)
    assert status == 400
    assert document["message"].startswith(f"tokens_to_generate is {room + 1}, but ")
    assert document["message"].endswith(f"ask for at most {room}")
    tokens = generate(server, prompts=prompts, tokens_to_generate=room, stop_token=1, top_k=1)["tokens"]
    assert len(tokens[1]) == 512
    status, document = put(server, prompts=["to be " * 300])
    assert status == 400
    assert "maximum context length is 512" in document["message"]


def test_posting_is_the_same(server: RunningServer) -> None:
    body = {"prompts": ["to be"], "tokens_to_generate": 3, "top_k": 1}
    assert server.post("/api", body).json() == generate(server, **body)


def test_sixty_four_tokens_are_the_default(server: RunningServer) -> None:
    document = generate(server, stop_token=1)  # BOS, which the model hardly ever chooses
    assert len(document["tokens"][0]) == len(server.tokenizer.encode("to be", bos=False)) + 64


def test_a_bos_token_on_request(server: RunningServer) -> None:
    document = generate(server, prompts=["", "to be"], add_BOS=True, tokens_to_generate=1)
    assert [tokens[0] for tokens in document["tokens"]] == [1, 1]


def test_logprobs_begin_with_the_second_token(server: RunningServer) -> None:
    document = generate(server, tokens_to_generate=4, top_k=1, logprobs=True, add_BOS=True)
    (tokens,), (logprobs,) = document["tokens"], document["logprobs"]
    assert len(logprobs) == len(tokens) - 1
    told = server.complete(prompt="to be", max_tokens=4, logprobs=0, echo=True)["choices"][0]["logprobs"]
    assert logprobs == told["token_logprobs"][1:]


def test_no_tokens_but_their_logprobs(server: RunningServer) -> None:
    document = generate(server, tokens_to_generate=0, logprobs=True)
    assert document["text"] == ["to be"]
    assert len(document["logprobs"][0]) == len(document["tokens"][0]) - 1


def test_a_seed_decides(server: RunningServer) -> None:
    texts = [generate(server, random_seed=seed, tokens_to_generate=8)["text"] for seed in (3, 3, 4)]
    assert texts[0] == texts[1] != texts[2]
    assert generate(server, tokens_to_generate=8)["text"] != generate(server, tokens_to_generate=8)["text"]


def test_a_token_of_ones_own_ends_a_text(server: RunningServer) -> None:
    """And is part of it, as in Megatron."""
    free = generate(server, tokens_to_generate=8, top_k=1)["tokens"][0]
    place = len(server.tokenizer.encode("to be", bos=False)) + 2
    assert generate(server, tokens_to_generate=8, top_k=1, stop_token=free[place])["tokens"][0] == free[: place + 1]


@pytest.mark.parametrize("name", ["stop_on_eol", "stop_on_double_eol"])
def test_a_line_end_ends_a_text(server: RunningServer, name: str) -> None:
    """Of eight random texts of 400 tokens some have a line end: one in about 300 tokens is one."""
    for seed in range(8):
        fields = {"tokens_to_generate": 400, "random_seed": seed, "temperature": 3.0, "stop_token": 1}
        free = generate(server, **fields)["text"][0]
        end = "\n" if name == "stop_on_eol" else "\n\n"
        expected = free[: free.index(end) + len(end)] if end in free else free
        assert generate(server, **fields, **{name: True})["text"][0] == expected


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_len": 5}, "max_len is no longer used"),
        ({"sentences": ["a"]}, "sentences is no longer used"),
        ({"beam_width": 2}, "beam_width is not supported"),
        ({"top_k": 3, "top_p": 0.5}, "cannot set both top-k and top-p"),
        ({"tokens_to_generate": 0}, "implies logprobs should be True"),
        ({"tokens_to_generate": -1}, "tokens_to_generate"),
        ({"tokens_to_generate": "5"}, "tokens_to_generate"),
        ({"prompts": []}, "prompts"),
        ({"prompts": ["a"] * 129}, "prompts"),
        ({"prompts": "a"}, "prompts"),
        ({"prompts": [""]}, "add_BOS"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": 101}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": 1001}, "top_k"),
        ({"random_seed": -1}, "random_seed"),
        ({"top_p_decay": 0.5}, "top_p_decay"),
        ({"prevent_newline_after_colon": True}, "prevent_newline_after_colon"),
        ({"anything": 1}, "anything"),
        ({f"field{number}": 1 for number in range(1000)}, "1001 fields"),
        ({"stop_token": 10**6}, "stop_token"),
    ],
)
def test_what_is_not_honoured_is_refused(server: RunningServer, fields: dict[str, Any], words: str) -> None:
    status, document = put(server, **fields)
    assert status == 400
    assert set(document) == {"message"}
    assert words in document["message"]


def test_values_that_change_nothing_are_taken(server: RunningServer) -> None:
    generate(server, tokens_to_generate=1, top_p_decay=0.0, top_p_bound=0, length_penalty=1, no_log=True)


def test_as_many_prompts_as_megatron_takes(tmp_path: Path) -> None:
    """128, though only six can be in the engine at a time."""
    with running_server(tmp_path, EngineLimits(batch_size=2, max_waiting=4)) as small:
        document = generate(small, prompts=[f"to be {number}" for number in range(128)], tokens_to_generate=1)
    assert all(text.startswith(f"to be {number}") for number, text in enumerate(document["text"]))
    assert len(document["tokens"]) == 128
