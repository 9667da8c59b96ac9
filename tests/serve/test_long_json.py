"""Long answers are written piece by piece; what comes out is what json writes in one piece."""

import asyncio
import json
from typing import Any

import pytest

from mixtralkit.serve.long_json import SLICE, long_json
from tests.serve.running_server import CONFIG, RunningServer

LONG = 5 * SLICE + 3
LOGPROBS = {"token_logprobs": [None, *[-0.5] * LONG], "top_logprobs": [None, *[{"a": -1.0, 'ü"': -2.5}] * LONG]}
DOCUMENTS: dict[str, dict[str, Any]] = {
    "short": {"a": [1, "ü", None, {}], "b": {}},
    "one choice": {"id": "x", "choices": [{"text": "a\n", "logprobs": LOGPROBS, "index": 0}], "usage": {"n": 1}},
    "many choices": {"choices": [{"index": index, "logprobs": None} for index in range(LONG)]},
    "lists of lists": {"tokens": [[1] * LONG, [], [2]], "text": ["a"] * LONG, "empty": []},
    "exactly a slice": {"a": [1] * SLICE, "b": [1] * (SLICE + 1), "c": [[1] * (2 * SLICE)]},
    "deep": {"a": [{"b": {"c": [[list(range(LONG))] * 2, 3]}}]},
    "a long object": {str(number): number for number in range(LONG)},
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_it_is_the_same_json(document: dict[str, Any]) -> None:
    expected = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    assert asyncio.run(long_json(document)) == expected


def test_others_get_a_turn() -> None:
    async def turns() -> int:
        writing = asyncio.ensure_future(long_json(DOCUMENTS["one choice"]))
        count = 0
        while not writing.done():
            count += 1
            await asyncio.sleep(0)
        return count

    assert asyncio.run(turns()) > 2 * LONG / SLICE


@pytest.mark.parametrize("stream", [False, True])
def test_a_long_answer_arrives(server: RunningServer, stream: bool) -> None:
    """The prompt's log probabilities are in the first chunk of a stream, too."""
    prompt = [5] * (CONFIG.context - 50)
    asked = {"prompt": prompt, "max_tokens": 2, "echo": True, "logprobs": 20, "stream": stream, "ignore_eos": True}
    response = server.post("/v1/completions", asked)
    first = response.text.split("\n\n")[0].removeprefix("data: ")
    assert response.headers["content-type"].startswith("text/event-stream" if stream else "application/json")
    assert len(json.loads(first)["choices"][0]["logprobs"]["top_logprobs"]) >= len(prompt)
